from avcil import rest_idle_threads

rest_idle_threads()  # as the command line does, before torch is imported
