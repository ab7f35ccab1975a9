"""What the callbacks keep on disk is there whole, whatever happens to the disk."""

import resource

import pytest

from kresnet.training.callbacks import HistoryFile


def test_a_history_on_a_full_disk_is_that_of_the_epoch_before(tmp_path):
    history, file = HistoryFile(tmp_path / "history.csv"), tmp_path / "history.csv"
    history.on_epoch_end(0, {"loss": 0.5})
    before = file.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before), hard))  # Python passes over the signal
    try:
        with pytest.raises(OSError, match=rf"^\[Errno 27\] File too large: '{file}'$"):
            history.on_epoch_end(1, {"loss": 0.25})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]
    again = HistoryFile(file)
    again.read()
    assert again.values() == {"loss": [0.5]}
    again.on_epoch_end(1, {"loss": 0.25})
    assert file.read_text().splitlines() == ["epoch,loss", "0,0.5", "1,0.25"]
