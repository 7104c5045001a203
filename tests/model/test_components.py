"""Principal components of patches, of large ones by another way."""

from __future__ import annotations

import pytest
import torch

from lssvwm_rl.model import components
from lssvwm_rl.model.components import principal_components


@pytest.mark.parametrize("sample", [30, 300])
def test_large_patches_have_the_same_components(monkeypatch, sample):
    """Fewer patches than pixels, or more."""
    torch.manual_seed(0)
    patches = torch.randn(sample, 12, dtype=torch.float64) @ torch.randn(12, 50, dtype=torch.float64) + 3
    exact = principal_components(patches)
    monkeypatch.setattr(components, "LARGE", 49)
    monkeypatch.setattr(components, "SAMPLE", sample)
    found = principal_components(patches)
    torch.testing.assert_close(found.mean, exact.mean)
    torch.testing.assert_close(found.variances[:12], exact.variances[:12])
    cosines = (found.directions[:, :12] * exact.directions[:, :12]).sum(dim=0)
    torch.testing.assert_close(cosines.abs(), torch.ones(12, dtype=torch.float64))
    assert not found.variances[12:].any() and not found.directions[:, 12:].any()


def test_of_many_large_patches_some_are_taken_from_everywhere(monkeypatch):
    torch.manual_seed(0)
    patches = torch.randn(40, 50, dtype=torch.float64)
    monkeypatch.setattr(components, "SAMPLE", 10)
    expected = principal_components(patches[::4])
    monkeypatch.setattr(components, "LARGE", 49)
    found = principal_components(patches)
    torch.testing.assert_close(found.mean, expected.mean)
    torch.testing.assert_close(found.variances[:9], expected.variances[:9])


def test_large_patches_that_are_all_the_same(monkeypatch):
    monkeypatch.setattr(components, "LARGE", 4)
    found = principal_components(torch.ones(6, 5))
    assert not found.variances.any() and not found.directions.any()
