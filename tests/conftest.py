"""Fixtures that all tests share."""

import pytest


def pytest_collection_modifyitems(items):
    """GPU tests are skipped, with their reason, where there is no CUDA device."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked:
        import torch

        if not torch.cuda.is_available():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))
