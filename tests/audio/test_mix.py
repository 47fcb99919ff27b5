from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.audio.signals import noise, segment, sine, source_of, stereo, worst_step_db

from babelcast.audio.duck import Ducking
from babelcast.audio.fallback import FallbackMode
from babelcast.audio.mix import CROSSFADE, MIXER_LOOKAHEAD, Mixer, MixSettings
from babelcast.audio.pcm import as_pcm, as_s16
from babelcast.audio.schedule import DubTrack
from babelcast.audio.source import SourceAudio
from babelcast.units import RATE, Pcm

pytestmark = pytest.mark.unit

S = RATE
MODES: tuple[FallbackMode | None, ...] = (None, "original", "background", "ducked", "repeat", "silence")


def bed(n: int) -> Pcm:
    return with_16_bits(stereo(sine(n, 110, 0.1), sine(n, 130, 0.1)))


def voice(n: int) -> Pcm:
    return with_16_bits(stereo(sine(n, 200, 0.2), sine(n, 200, 0.2)))


def with_16_bits(samples: Pcm) -> Pcm:
    """As the original is kept, so that it can be compared to the sample."""
    return as_pcm(as_s16(samples))


def programme(seconds: float = 4) -> SourceAudio:
    n = round(seconds * S)
    return source_of(bed(n) + voice(n), bed(n))


def dubbed(*spans: tuple[int, int]) -> DubTrack:
    track = DubTrack()
    for i, (start, stop) in enumerate(spans):
        track.add(segment(start, stop, stop - start, sequence=i), playhead=-S)
    return track


def render(mixer: Mixer, start: int, stop: int, mode: FallbackMode | None = None, block: int = 4_800) -> Pcm:
    parts = [mixer.render(pos, min(block, stop - pos), mode) for pos in range(start, stop, block)]
    return np.concatenate(parts)


def test_background_plus_dub() -> None:
    mixer = Mixer(programme(), dubbed((S, 2 * S)), MixSettings(bg_gain=0.5, dub_gain=2.0, original_gain=0.1))
    out = render(mixer, 0, 3 * S)
    reference = dubbed((S, 2 * S)).read(0, 3 * S)[0]
    n = 4 * S
    wanted = 0.5 * bed(n)[: 3 * S] + 2.0 * reference[:, None] + 0.1 * (bed(n) + voice(n))[: 3 * S]
    assert np.abs(out - wanted).max() < 1e-6
    assert out.dtype == np.float32


@pytest.mark.parametrize(
    ("mode", "bed_gain", "voice_gain"),
    [("original", 1, 1), ("background", 1, 0), ("ducked", 0.2, 0.2), ("silence", 0, 0), ("repeat", 1, 0)],
)
def test_each_fallback(mode: FallbackMode, bed_gain: float, voice_gain: float) -> None:
    mixer = Mixer(programme(), DubTrack())
    out = render(mixer, 0, 2 * S, mode)
    n = 4 * S
    assert np.abs(out - (bed_gain * bed(n) + voice_gain * voice(n))[: 2 * S]).max() < 1e-6


def test_repeat_says_the_last_dub_again() -> None:
    mixer = Mixer(source_of(np.zeros((9 * S, 2), np.float32), np.zeros((9 * S, 2), np.float32)), dubbed((S, 2 * S)))
    render(mixer, 0, 3 * S)
    out = render(mixer, 3 * S, 8 * S, "repeat")[:, 0]
    envelope = np.abs(out.reshape(-1, 2_400)).max(axis=1) > 0.05
    starts = np.flatnonzero(envelope[1:] & ~envelope[:-1])
    assert np.diff(starts) == pytest.approx(1.5 * S / 2_400, abs=1.5)  # a second of dub, half a second of pause
    assert envelope.any() and not envelope.all()


@pytest.mark.parametrize("block", [1, 7, 480, 4_800])
def test_the_result_does_not_depend_on_the_blocks(block: int) -> None:
    def sound(size: int) -> Pcm:
        mixer = Mixer(programme(1), dubbed((3_000, 9_000)))
        out = [render(mixer, 0, 9_600, None, size)]
        changes: tuple[FallbackMode | None, ...] = ("original", "background", None)
        for i, mode in enumerate(changes):
            out.append(render(mixer, 9_600 + i * 4_800, 14_400 + i * 4_800, mode, size))
        return np.concatenate(out)

    assert np.abs(sound(block) - sound(2_400)).max() < 1e-6


@pytest.mark.parametrize("block", [7, 480, 4_800])
def test_blocks_do_not_matter_where_the_background_ends(block: int) -> None:
    def sound(size: int) -> Pcm:
        n = 2 * S
        audio = source_of(bed(n) + voice(n), None)
        audio.write_background(0, bed(n)[:31_111])
        return render(Mixer(audio, DubTrack()), 0, S, None, size)

    assert np.abs(sound(block) - sound(S)).max() < 1e-6


@pytest.mark.parametrize("after", MODES)
@pytest.mark.parametrize("before", MODES)
def test_no_click_at_a_change(before: FallbackMode | None, after: FallbackMode | None) -> None:
    mixer = Mixer(programme(), dubbed((S // 2, 2 * S)))
    out = np.concatenate((render(mixer, 0, S, before), render(mixer, S, 2 * S, after)))
    assert worst_step_db(out) < -60


def test_a_hard_cut_would_be_found() -> None:
    n = 4_800
    cut = np.concatenate(((bed(2 * n) + voice(2 * n))[: n + 30], bed(2 * n)[n + 30 :]))
    assert worst_step_db(cut) > -40


def test_a_crossfade_is_over_in_time_and_the_background_does_not_bump() -> None:
    n = 4 * S
    audio = source_of(bed(n) + 0.0, bed(n))
    mixer = Mixer(audio, DubTrack())
    out = np.concatenate((render(mixer, 0, S, "original"), render(mixer, S, 2 * S, None)))
    assert np.abs(out - bed(n)[: 2 * S]).max() < 1e-6
    speech = source_of(voice(n), np.zeros((n, 2), np.float32))
    mixer = Mixer(speech, DubTrack())
    faded = np.concatenate((render(mixer, 0, S, "original"), render(mixer, S, 2 * S, None)))
    assert np.abs(faded[S - 1_000 : S]).max() > 0.19
    assert not faded[S + MIXER_LOOKAHEAD :].any()
    assert faded[S + CROSSFADE // 2 :].any()


def test_equal_power_between_unlike_voices() -> None:
    n = 6 * S
    original = noise(n, seed=1, amplitude=0.1, channels=1)
    audio = source_of(stereo(original, original), np.zeros((n, 2), np.float32))
    dub = DubTrack()
    spoken = segment(0, n, n)
    dub.add(replace(spoken, samples=noise(n, seed=2, amplitude=0.1, channels=1)), playhead=-S)
    powers = []
    for i in range(1, 20):
        mixer = Mixer(audio, dub)
        start = 2_000 * i
        mixer.render(start, 4_800, "original")
        out = mixer.render(start + 4_800, 4_800)
        powers.append(np.mean(out**2))
    assert 10 * np.log10(np.mean(powers) / 0.01) == pytest.approx(0.0, abs=0.3)


@pytest.mark.parametrize(("stand_in", "gain"), [("ducked", 0.2), ("original", 1.0)])
def test_where_the_background_is_missing_the_original_stands_in(stand_in: str, gain: float) -> None:
    n = 4 * S
    audio = source_of(bed(n) + voice(n), None)
    audio.write_background(-4_800, bed(n)[:4_800] * 0)
    audio.write_background(0, bed(n)[:S])
    audio.write_background(2 * S, bed(n)[2 * S :])
    settings = MixSettings(missing_background="ducked" if stand_in == "ducked" else "original")
    mixer = Mixer(audio, DubTrack(), settings)
    out = render(mixer, 0, 3 * S)
    original = bed(n) + voice(n)
    assert np.abs(out - gain * original[: 3 * S])[S + 480 : 2 * S - 480].max() < 1e-3
    assert np.abs(out - bed(n)[: 3 * S])[: S - CROSSFADE - 960].max() < 1e-6
    assert np.abs(out - bed(n)[: 3 * S])[2 * S + CROSSFADE + 960 :].max() < 1e-6
    assert worst_step_db(out) < -60


def test_settings_change_on_air_without_a_click() -> None:
    mixer = Mixer(programme(), dubbed((S // 2, 2 * S)))
    before = render(mixer, 0, S)
    mixer.settings = MixSettings(bg_gain=0.25, dub_gain=0.5, original_gain=0.2)
    out = np.concatenate((before, render(mixer, S, 2 * S)))
    assert worst_step_db(out) < -60
    fresh = Mixer(programme(), dubbed((S // 2, 2 * S)), mixer.settings)
    assert np.abs(out[S + S // 10 :] - render(fresh, 0, 2 * S)[S + S // 10 :]).max() < 1e-6


def test_a_fader_can_be_dragged_after_ten_hours() -> None:
    """A change that comes before the last one has faded in; sample positions are far beyond a float32's integers."""
    begin, n = 10 * 3_600 * S + 480, S
    audio = SourceAudio(3)
    for write in (audio.write_original, audio.write_background):
        write(begin - 4_800, bed(n + 4_800) * 0)
        write(begin, bed(2 * n))
    mixer, out = Mixer(audio, DubTrack()), []
    for i, pos in enumerate(range(begin, begin + n, 1_440)):
        mixer.settings = MixSettings(bg_gain=(1.0, 0.3, 0.8, 0.1)[i % 4])
        out.append(mixer.render(pos, 1_440))
    assert worst_step_db(np.concatenate(out)) < -60


def test_loud_sums_are_limited() -> None:
    n = 2 * S
    audio = source_of(stereo(sine(n, 200, 0.8), sine(n, 200, 0.8)), stereo(sine(n, 200, 0.8), sine(n, 200, 0.8)))
    dub = DubTrack()
    dub.add(segment(0, S, S, hz=200, amplitude=0.8), playhead=-S)
    out = render(Mixer(audio, dub), 0, n)
    assert np.abs(out).max() <= 10 ** (-1 / 20) + 1e-6
    assert np.abs(out).max() > 0.8


def test_a_source_that_is_not_there_is_silence() -> None:
    block = Mixer(SourceAudio(5), None).render(0, 4_800, "original")
    assert not block.any() and block.shape == (4_800, 2)


def test_a_jump_starts_anew() -> None:
    mixer = Mixer(programme(), DubTrack())
    mixer.render(0, 4_800, "original")
    out = mixer.render(S + 123, 4_800, "background")
    assert np.abs(out - bed(4 * S)[S + 123 : S + 4_923]).max() < 1e-6


def test_separation_that_failed_can_mean_no_dub() -> None:
    n = 4 * S
    audio = source_of(bed(n) + voice(n), None)
    audio.write_background(-4_800, bed(n)[:4_800] * 0)
    audio.write_background(0, bed(n)[:S])
    audio.write_background(2 * S, bed(n)[2 * S :])
    out = render(Mixer(audio, dubbed((S // 2, 5 * S // 2)), MixSettings(missing_background="skip")), 0, 3 * S)
    original = (bed(n) + voice(n))[: 3 * S]
    assert np.abs(out - original)[S + 480 : 2 * S - 480].max() < 1e-3  # all of the original, none of the dub
    spoken = dubbed((S // 2, 5 * S // 2)).read(0, 3 * S)[0]
    dubbed_part = slice(S // 2, S - CROSSFADE - 960)
    assert np.abs(out - bed(n)[: 3 * S] - spoken[:, None])[dubbed_part].max() < 1e-6
    assert worst_step_db(out) < -60


def test_ducking_lowers_the_background_while_the_dub_speaks_and_no_fallback() -> None:
    ducking = Ducking(enabled=True, range_db=6.0)
    mixer = Mixer(programme(7), dubbed((S, 2 * S)), MixSettings(ducking=ducking))
    out = render(mixer, 0, 6 * S)
    dub = dubbed((S, 2 * S)).read(0, 6 * S)[0]
    background = out - dub[:, None]
    wanted = bed(6 * S)
    assert np.abs(background - wanted)[:S].max() < 1e-6
    assert np.abs(background - 0.501 * wanted)[3 * S // 2 : 2 * S - 960].max() < 2e-3
    assert np.abs(background - wanted)[5 * S :].max() < 1e-3
    assert worst_step_db(out) < -60
    forced = Mixer(programme(), dubbed((S, 2 * S)), MixSettings(ducking=ducking))
    heard = render(forced, 0, 2 * S, "original")
    assert np.abs(heard - (bed(4 * S) + voice(4 * S))[: 2 * S]).max() < 1e-6


@pytest.mark.parametrize("block", [7, 480, 9_600])
def test_ducking_and_balance_do_not_depend_on_the_blocks(block: int) -> None:
    settings = MixSettings(ducking=Ducking(enabled=True), balance="auto", original_gain=0.1)

    def sound(size: int) -> Pcm:
        return render(Mixer(programme(3), dubbed((3_000, 40_000), (60_000, 90_000)), settings), 0, 2 * S, None, size)

    assert np.abs(sound(block) - sound(4_800)).max() < 1e-6


def test_levels_of_the_last_tenth_of_a_second() -> None:
    mixer = Mixer(programme(), dubbed((S, 2 * S)), MixSettings(bg_gain=0.5))
    assert mixer.levels.output == -120.0
    render(mixer, 0, S // 2)
    assert mixer.levels.dub == -120.0
    render(mixer, S // 2, 3 * S // 2)
    levels = mixer.levels
    assert levels.source == pytest.approx(10 * np.log10(0.1**2 / 2 + 0.2**2 / 2), abs=0.1)
    assert levels.background == pytest.approx(10 * np.log10(0.1**2 / 2), abs=0.1)
    assert levels.dub == pytest.approx(10 * np.log10(0.2**2 / 2), abs=0.2)
    assert levels.output == pytest.approx(10 * np.log10(0.05**2 / 2 + 0.2**2 / 2), abs=0.2)


def test_the_source_ends_and_comes_back_without_a_click() -> None:
    """Read at the edge of what has come: silence until more comes, however late."""
    n = 4 * S
    audio = source_of((bed(n) + voice(n))[:S], bed(n)[:S])
    mixer = Mixer(audio, DubTrack())
    out = [render(mixer, 0, 2 * S)]
    audio.write_original(3 * S - 1_000, (bed(n) + voice(n))[3 * S - 1_000 :])
    audio.write_background(3 * S - 1_000, bed(n)[3 * S - 1_000 :])
    out.append(render(mixer, 2 * S, 7 * S // 2))
    sound = np.concatenate(out)
    assert worst_step_db(sound) < -60
    assert not sound[S + 1 : 3 * S - 1_000].any()
