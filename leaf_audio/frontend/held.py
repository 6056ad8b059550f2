"""A frontend that computes as in evaluation while other parts are trained."""


class Holdable:
    """Adds `hold` to a frontend."""

    _is_held = False

    def hold(self) -> None:
        """Has the frontend compute as in evaluation, also in training.

        A normalization within the frontend then uses, and keeps, the statistics
        that it has. SpecAugment still masks features in training: it is no part
        of what the frontend has learned, and what comes after the frontend
        learns from it. The weights can still be trained.
        """
        self._is_held = True

    def _training_of_steps(self, training: bool | None) -> bool | None:
        """Returns the `training` of the steps before the augmentation."""
        return False if self._is_held else training
