"""What is said in the speech benchmarks: English sentences, who says them, and a Spanish reference for each.

The references were written for this file, as an interpreter would say it; no machine translation was asked.
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from babelcast.demo.clip import SCRIPT
from babelcast.units import SPEECH_RATE

LEVEL = 0.1
Samples = npt.NDArray[np.float64]

# (voice of flite, what it says, reference)
TALK = (
    ("slt", "Good evening and welcome to the harbor festival.", "Buenas noches y bienvenidos al festival del puerto."),
    (
        "slt",
        "Thousands of people have come to the city today to see the old ships and to listen to the music.",
        "Miles de personas han venido hoy a la ciudad para ver los viejos barcos y escuchar la música.",
    ),
    (
        "rms",
        "The first boats arrived early in the morning, when the water was still dark and quiet.",
        "Los primeros barcos llegaron temprano por la mañana, cuando el agua aún estaba oscura y tranquila.",
    ),
    ("slt", "The weather is warm.", "El tiempo es cálido."),
    (
        "rms",
        "The mayor said that the festival is good for the town, because the hotels and restaurants are full.",
        "El alcalde dijo que el festival es bueno para la ciudad, porque los hoteles y restaurantes están llenos.",
    ),
    (
        "slt",
        "Many families walked along the river with their children.",
        "Muchas familias pasearon por el río con sus hijos.",
    ),
    (
        "rms",
        "They bought food, and they watched the dancers in the street.",
        "Compraron comida y vieron a los bailarines en la calle.",
    ),
    (
        "slt",
        "In the afternoon a big ship from the north came into the port, "
        "and the people on the bridge waved their hands.",
        "Por la tarde un gran barco del norte entró en el puerto, y la gente del puente saludó con las manos.",
    ),
    (
        "rms",
        "The captain told us that the journey took eleven days.",
        "El capitán nos dijo que el viaje duró once días.",
    ),
    (
        "slt",
        "He said the wind was strong but the crew worked very well.",
        "Dijo que el viento era fuerte, pero la tripulación trabajó muy bien.",
    ),
    (
        "rms",
        "Tomorrow there will be a race with twenty small boats.",
        "Mañana habrá una carrera con veinte barcos pequeños.",
    ),
    (
        "slt",
        "The winner will receive a silver cup and a large amount of money.",
        "El ganador recibirá una copa de plata y una gran cantidad de dinero.",
    ),
    (
        "rms",
        "We also spoke with a teacher who brought her class to the museum.",
        "También hablamos con una profesora que trajo a su clase al museo.",
    ),
    (
        "slt",
        "She thinks that children learn more when they can see and touch the things.",
        "Ella cree que los niños aprenden más cuando pueden ver y tocar las cosas.",
    ),
    (
        "rms",
        "At night the city will light a thousand lamps on the water.",
        "Por la noche la ciudad encenderá mil lámparas sobre el agua.",
    ),
    (
        "slt",
        "Stay with us, we will be back in a few minutes with more news.",
        "Quédense con nosotros, volveremos en unos minutos con más noticias.",
    ),
)

# of what is said in `babelcast demo`, sentence by sentence
_DEMO_REFERENCES = (
    "Hola a todos y bienvenidos al estadio.",
    "Es una noche hermosa, y no queda ni un asiento libre.",
    "Estamos muy contentos de estar aquí con ustedes esta noche.",
    "El equipo local ha ganado los últimos tres partidos.",
    "Los visitantes necesitan un buen resultado para seguir en la competición.",
    "La lluvia ha parado, pero la hierba todavía está muy mojada.",
    "Hablé con el entrenador antes del partido.",
    "El entrenador nos dijo que el equipo ha trabajado muy duro esta semana.",
    "El capitán está de vuelta después de una larga lesión.",
    "La gente está muy contenta de ver otra vez a su capitán.",
    "Pero el otro equipo tiene un portero joven y muy fuerte.",
    "Los dos equipos saben que este es el partido más importante del año.",
    "Pueden oír a la gente cantando detrás de mí.",
    "Los niños están cantando con sus padres y sus amigos.",
    "El árbitro está hablando con los dos capitanes.",
    "El ganador jugará en la final el mes que viene.",
    "El partido empezará en un minuto.",
    "Quédense con nosotros, porque la noche será larga.",
    "El sol se ha puesto y las luces están encendidas.",
    "El presidente del club también está aquí con su familia.",
    "Este jugador es el mejor jugador del país.",
)
DEMO = tuple((*line, reference) for line, reference in zip(SCRIPT, _DEMO_REFERENCES, strict=True))
TEXTS = {"talk": TALK, "demo": DEMO}


@dataclass(frozen=True)
class Sentence:
    """``start_s`` and ``end_s``: first and last sound, in seconds of the talk."""

    start_s: float
    end_s: float
    text: str
    reference: str


def say(voice: str, text: str) -> Samples:
    """One sentence at :data:`LEVEL` RMS, without silence round it."""
    command = ["ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", f"flite=voice={voice}:text='{text}'"]
    command += ["-ar", str(SPEECH_RATE), "-ac", "1", "-f", "s16le", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    samples = np.frombuffer(raw, "<i2") / 32768
    loud = np.flatnonzero(np.abs(samples) > 0.02 * np.abs(samples).max())
    samples = samples[loud[0] : loud[-1] + 400]
    leveled: Samples = samples * LEVEL / np.sqrt(np.mean(samples**2))
    return leveled


def make_talk(text: Sequence[tuple[str, str, str]] = TALK) -> tuple[Samples, list[Sentence]]:
    """The text in its voices, a second before it and two behind, pauses of 0.2 to 0.5 s; always the same."""
    rng = random.Random(3)
    parts = [np.zeros(SPEECH_RATE)]
    sentences = []
    for voice, said, reference in text:
        start = sum(map(len, parts))
        parts += [say(voice, said), np.zeros(int(rng.uniform(0.2, 0.5) * SPEECH_RATE))]
        sentences.append(Sentence(start / SPEECH_RATE, (start + len(parts[-2])) / SPEECH_RATE, said, reference))
    return np.concatenate([*parts, np.zeros(2 * SPEECH_RATE)]), sentences


def make_bed(count: int) -> Samples:
    """Decaying chords and low-passed noise, together at 1.0 RMS."""
    when = np.arange(count) / SPEECH_RATE
    chords = np.array([(220, 277, 330), (196, 247, 294), (175, 220, 262), (196, 247, 330)])[(when // 2).astype(int) % 4]
    music = sum(
        np.sin(2 * np.pi * harmonic * chords[:, note] * when) / harmonic for note in range(3) for harmonic in (1, 2, 3)
    ) * np.exp(-4 * (when % 0.5))
    spectrum = np.fft.rfft(np.random.default_rng(1).normal(size=count))
    spectrum /= np.sqrt(1 + (np.fft.rfftfreq(count, 1 / SPEECH_RATE) / 500) ** 2)
    crowd = np.fft.irfft(spectrum, count) * (1 + 0.4 * np.sin(2 * np.pi * 0.3 * when))
    bed = music / music.std() + crowd / crowd.std()
    normalised: Samples = bed / bed.std()
    return normalised


def as_pcm(samples: Samples) -> bytes:
    return (samples * 32767).clip(-32768, 32767).astype("<i2").tobytes()
