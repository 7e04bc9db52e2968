"""Several devices of one machine: a process for each runs blocks, this one hands them out."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path

from avcil.cache import CacheInfo, RowWriter
from avcil.errors import AvcilError, EncoderError
from avcil.extract.block import Block, BlockReport, BlockRunner
from avcil.extract.child import Channel, Child
from avcil.extract.options import ExtractOptions, build_token_encoder

END_S = 5.0  # what a process gets to store what it has encoded and to end by itself
POLL_S = 0.5  # between two calls of `on_progress`


@dataclass
class _Device:
    """A device's process: how many blocks it has that are not reported on, and whether it gets more."""

    child: Child
    name: str
    blocks: int = 0
    is_open: bool = True

    def give(self, block: Block | None) -> None:
        """Hand over a block, or None: there are no more."""
        if self.is_open:
            self.child.channel.send(block)
            self.blocks += block is not None
            self.is_open = block is not None

    def receive(self) -> BlockReport:
        """The next report; raises `EncoderError` where the process died."""
        try:
            report = self.child.channel.recv()
        except (EOFError, OSError):
            how = self.child.end(END_S)
            raise EncoderError(f"the process of device {self.name} died ({how})") from None
        assert isinstance(report, BlockReport)
        return report


def run_on_devices(
    blocks: Sequence[Block],
    per_device: Sequence[ExtractOptions],
    rows: RowWriter,
    on_report: Callable[[BlockReport], None],
    on_progress: Callable[[], None],
) -> None:
    """Run blocks in a process for each device, each taking the next block when it is done with one.

    Interrupted or failing, everything that was stored stays, what the processes have to report is taken, and
    all of them end.

    Args:
        blocks: what to run, handed out in this order once every device's encoders stand.
        per_device: the options of each device.
        rows: of the cache; the processes write its rows.
        on_report: called with the report of each block that has ended.
        on_progress: called twice a second.

    Raises:
        AvcilError: what the first process to fail ran into.
    """
    waiting = iter(blocks)
    devices: list[_Device] = []
    try:
        for options in per_device:
            devices.append(_Device(Child(_serve, options, rows.path, rows.info), options.device))
        for device in devices:
            if (error := device.receive().error) is not None:
                raise error
        for device in (*devices, *devices):  # one ahead, whose clips are decoded while the first is encoded
            device.give(next(waiting, None))
        while busy := {one.child.channel.fileno(): one for one in devices if one.blocks}:
            for fd in wait(list(busy), POLL_S):
                assert isinstance(fd, int)
                device = busy[fd]
                report = device.receive()
                device.blocks -= 1
                on_report(report)
                if report.error is not None:
                    raise report.error
                device.give(next(waiting, None))
            on_progress()
    except BaseException:
        for device in devices:
            device.child.terminate()
        for device in devices:
            _take_last_reports(device, on_report)
        raise
    finally:
        for device in devices:
            device.child.end(END_S)


def _take_last_reports(device: _Device, on_report: Callable[[BlockReport], None]) -> None:
    try:
        while device.blocks and device.child.channel.poll(END_S):
            on_report(device.child.channel.recv())
            device.blocks -= 1
    except (EOFError, OSError):
        return


def _serve(channel: Channel, options: ExtractOptions, path: Path, info: CacheInfo) -> None:
    """Run in a device's process: report that the encoders stand, then on every block."""
    signal.signal(signal.SIGTERM, _leave)

    def send(report: BlockReport) -> None:
        if report.error is not None and not isinstance(report.error, AvcilError):
            cause = f"{type(report.error).__name__}: {report.error}"
            report.error = EncoderError(f"extraction on {options.device}: {cause}")
        if report.ended:
            channel.send(report)

    try:
        encoder = build_token_encoder(options)
        if encoder.info != info:
            raise EncoderError(f"the encoders on {options.device} are not those of the cache {path}")
        rows = RowWriter.of_cache(path, info)
    except Exception as error:
        send(BlockReport(error=error, ended=True))
        return
    send(BlockReport(ended=True))
    try:
        BlockRunner(options, encoder, rows, send).run_blocks(iter(channel.recv, None))
    except (AvcilError, OSError, EOFError):
        return  # reported; or nobody listens any more


def _leave(*_: object) -> None:
    raise SystemExit(1)  # inside a block it becomes part of its report
