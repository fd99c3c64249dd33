"""The log-Mel as librosa computes it."""

import librosa


def librosa_log_mel(waveform):
    power = librosa.feature.melspectrogram(
        y=waveform,
        sr=16000,
        n_fft=512,
        win_length=400,
        hop_length=160,
        window="hamming",
        center=False,
        n_mels=64,
        fmin=20,
        fmax=8000,
    )
    return librosa.power_to_db(power, ref=1.0, amin=1e-10, top_db=None).T
