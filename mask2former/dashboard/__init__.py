"""What a person looks at: a report of an evaluation, curves of a training, runs side by side; as web pages."""
