"""The journal of a stage: one JSON object a line, and TensorBoard beside it if wanted."""

import json
from pathlib import Path
from typing import Any

from textcosm.errors import TrainingError


class Journal:
    """Appends records; on resuming at ``step``, lines of later steps (written after the last saved state) are dropped."""

    def __init__(self, path: Path, step: int = 0, tensorboard: bool = False):
        self.path = path
        kept = [record for record in read_journal(path) if record.get("step", 0) <= step]
        path.write_text("".join(_line(record) for record in kept), encoding="utf-8")
        self.board = _open_board(path.parent / "tensorboard", step) if tensorboard else None

    def write(self, record: dict[str, Any]) -> None:
        """Append one record, at once on disk; numbers also go to TensorBoard, by ``record["step"]``."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line(record))
        if self.board is not None:
            for name, value in record.items():
                if name != "step" and isinstance(value, int | float):
                    self.board.add_scalar(name, value, record.get("step", 0))

    def close(self) -> None:
        """Let TensorBoard write what it still holds."""
        if self.board is not None:
            self.board.close()


def read_journal(path: Path) -> list[dict[str, Any]]:
    """All whole lines (a crash can leave half a line at the end); empty if there is no journal yet."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records


def _line(record: dict[str, Any]) -> str:
    return json.dumps({name: _short(value) for name, value in record.items()}, ensure_ascii=False) + "\n"


def _short(value: Any) -> Any:
    """Seven digits hold a float32."""
    return float(f"{value:.7g}") if isinstance(value, float) else value


def _open_board(directory: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise TrainingError("TensorBoard is not installed; run: pip install tensorboard, or train without it") from None
    return SummaryWriter(str(directory), purge_step=step + 1)
