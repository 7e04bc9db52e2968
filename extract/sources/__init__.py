"""Lists and folders of videos: what a source holds, as clips with class and split."""
