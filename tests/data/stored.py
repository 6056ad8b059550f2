"""Stores clips that a test has made."""

from leaf_audio.data import clip_store
from leaf_audio.data.clip_store import Clip, Source


def store(data_dir, splits, label_names, sample_rate=8000, **changes):
    """Prepares clips: a list of `Clip`, or a `Source`, for each split."""
    arguments = {
        "name": "set",
        "settings": {"a": 1},
        "state": ["x"],
        "describe": lambda stored: {"label_names": list(label_names)},
    }
    return clip_store.prepare_once(
        data_dir=str(data_dir),
        sample_rate=sample_rate,
        sources=lambda: {
            split: clips if isinstance(clips, Source) else Source.of(clips)
            for split, clips in splits.items()
        },
        **(arguments | changes),
    )


__all__ = ["Clip", "Source", "store"]
