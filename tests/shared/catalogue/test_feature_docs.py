"""The documented columns are the real ones."""

from pathlib import Path

from fluxforge import catalogue, feature_docs
from fluxforge.kernels.config import FeatureConfig
from fluxforge.kernels.features import column_count

DOCUMENT = Path(__file__).parents[3] / "docs" / "FEATURES.md"


def test_the_document_is_what_the_catalogue_writes() -> None:
    assert DOCUMENT.read_text() == "\n".join(feature_docs.lines()) + "\n", (
        "run: python -m fluxforge.feature_docs > docs/FEATURES.md"
    )


def test_catalogue_and_kernel_agree_on_the_number_of_columns() -> None:
    for config in (FeatureConfig(), FeatureConfig(max_levels=3, ofi_levels=7, horizons=(2, 9), bands_bps=(1.0,))):
        names = catalogue.columns(config)
        assert len(names) == len(set(names)) == column_count(config)
