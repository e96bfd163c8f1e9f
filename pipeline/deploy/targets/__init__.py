"""The places where releases run, one module each; `deploy.target` says what they promise."""
