"""Raw media to TFRecords: decoding, faces, log-Mels, records. Knows nothing of networks."""
