"""Playing in a browser: keys, rewinding, forks, files, narrow screens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from lssvwm_envs.options import setup_of_checkpoint

pytestmark = pytest.mark.browser

PIXELS = """canvas => {
    const image = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return [canvas.height, canvas.width, ...image.data];
}"""
LEFT, RIGHT, FORWARD = "ArrowLeft", "ArrowRight", "ArrowUp"


def pixels(page: Page, line: str) -> np.ndarray:
    """(H, W, 3) uint8, what is on the canvas of a line."""
    height, width, *data = page.locator(f'.panel[data-line="{line}"] canvas.frame').evaluate(PIXELS)
    return np.array(data, np.uint8).reshape(height, width, 4)[..., :3]


def press(page: Page, keys: list[str], line: str) -> list[np.ndarray]:
    """Press keys, each after the frame of the one before it; what a line shows after each."""
    panel = page.locator(f'.panel[data-line="{line}"]')
    frames = []
    for key in keys:
        at = int(panel.get_attribute("data-at"))
        page.keyboard.press(key)
        expect(panel).to_have_attribute("data-at", str(at + 1))
        frames.append(pixels(page, line))
    return frames


def test_keys_move_the_agent_of_the_real_environment(page):
    with setup_of_checkpoint("minigrid-memory").make() as env:
        wanted = [env.reset(seed=1)[0], *(env.step(action)[0] for action in (0, 2, 1))]
    found = [pixels(page, "Real"), *press(page, [LEFT, FORWARD, RIGHT], "Real")]
    assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))
    expect(page.locator("#step")).to_have_text("3 / 3")


def test_buttons_and_digits_are_the_same_as_keys(page):
    (by_key,) = press(page, [LEFT], "Real")
    page.keyboard.press("r")
    expect(page.locator("#step")).to_have_text("0 / 0")
    page.locator('#controls [data-action="0"]').click()
    expect(page.locator("#step")).to_have_text("1 / 1")
    by_button = pixels(page, "Real")
    page.keyboard.press("r")
    expect(page.locator("#step")).to_have_text("0 / 0")
    (by_digit,) = press(page, ["0"], "Real")
    assert np.array_equal(by_key, by_button) and np.array_equal(by_key, by_digit)


def test_rewinding_restores_the_same_bytes(page):
    page.locator('[data-mode="dream"]').click()
    expect(page.locator(".panel")).to_have_count(1)
    line = page.locator(".panel").get_attribute("data-line")
    frames = [pixels(page, line), *press(page, [LEFT, RIGHT, LEFT, LEFT], line)]
    for at in (3, 2, 1, 0):
        page.keyboard.press(",")
        expect(page.locator("#step")).to_have_text(f"{at} / 4")
        assert np.array_equal(pixels(page, line), frames[at])
    page.keyboard.press(".")
    expect(page.locator("#step")).to_have_text("1 / 4")
    again = press(page, [RIGHT, LEFT, LEFT], line)  # replaces what came after, and finds the same
    assert all(np.array_equal(a, b) for a, b in zip(again, frames[2:], strict=True))
    assert not np.array_equal(frames[1], frames[0])


def test_a_real_environment_that_was_rewound_lets_the_dream_go_on_alone(page):
    press(page, [LEFT, RIGHT], "Real")
    page.locator("#back").click()
    expect(page.locator("#step")).to_have_text("1 / 2")
    page.keyboard.press(LEFT)
    expect(page.locator("#note")).to_contain_text("cannot be rewound")
    expect(page.locator('[data-mode="dream"]')).to_have_attribute("aria-checked", "true")


def test_a_fork_shows_two_futures(page):
    page.locator('[data-mode="dream"]').click()
    expect(page.locator(".panel")).to_have_count(1)
    line = page.locator(".panel").get_attribute("data-line")
    press(page, [LEFT], line)
    page.keyboard.press("f")
    expect(page.locator(".panel")).to_have_count(2)
    lines = [panel.get_attribute("data-line") for panel in page.locator(".panel").all()]
    assert np.array_equal(pixels(page, lines[0]), pixels(page, lines[1]))
    page.locator("#together").check()
    press(page, [LEFT, FORWARD], lines[1])
    assert not np.array_equal(pixels(page, lines[0]), pixels(page, lines[1]))
    page.locator(".panel h2 button").first.click()
    expect(page.locator(".panel")).to_have_count(1)


def test_states_go_out_and_come_back_and_others_are_refused(page, tmp_path):
    press(page, [LEFT, LEFT], "Real")
    frame = pixels(page, "Dream 1")
    with page.expect_download() as download:
        page.locator("#save").click()
    path = tmp_path / "state.safetensors"
    download.value.save_as(path)
    page.keyboard.press("r")
    page.locator("#load").set_input_files(path)
    expect(page.locator(".panel")).to_have_count(1)
    expect(page.locator(".panel .source")).to_have_text("given frame · step 0")
    assert np.array_equal(pixels(page, page.locator(".panel").get_attribute("data-line")), frame)
    path.write_bytes(b"nothing")
    page.locator("#load").set_input_files(path)
    expect(page.locator("#note")).to_have_text("The file is not a dream state; give one that was downloaded here.")


def test_a_picture_begins_a_dream(page, tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (56, 56, 3), np.uint8)
    Image.fromarray(rgb).save(tmp_path / "picture.png")
    page.locator("#picture").set_input_files(tmp_path / "picture.png")
    expect(page.locator(".panel")).to_have_count(1)
    expect(page.locator(".panel .source")).to_have_text("given frame · step 0")
    assert np.array_equal(pixels(page, page.locator(".panel").get_attribute("data-line")), rgb)


def test_settings_and_another_checkpoint(page):
    page.keyboard.press("]")
    expect(page.locator("#horizon")).to_have_value("512")
    page.locator("#checkpoint").select_option("maze-memory")
    expect(page.locator("#env")).to_have_text("lssvwm/MemoryMaze-5x5-v0", timeout=120_000)
    expect(page.locator("#controls button")).to_have_count(6)
    press(page, [FORWARD], "Real")


def test_everything_is_in_reach_on_a_narrow_screen(page):
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator('#controls [data-action="1"]').click()
    expect(page.locator("#step")).to_have_text("1 / 1")


def test_a_screenshot(page, tmp_path, request):
    """What docs/play.md shows: real and dream side by side, and a fork."""
    path = Path(request.config.getoption("--screenshot", default=None) or tmp_path / "play.png")
    press(page, [LEFT, FORWARD, RIGHT, RIGHT, FORWARD], "Real")
    page.keyboard.press("f")
    page.locator("#together").check()
    page.locator("#together").blur()
    expect(page.locator(".panel")).to_have_count(3)
    press(page, [LEFT], "Real")
    page.mouse.move(0, 0)
    page.screenshot(path=path)
    with Image.open(path) as image:
        assert image.size == (1280, 840) and len(image.convert("RGB").getcolors(10**7)) > 50
    assert path.stat().st_size <= 300_000
