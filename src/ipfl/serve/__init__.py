"""The live page: a run's page and figures over HTTP, while the run goes on.

Reads the run folder and nothing else, and writes nothing; it needs the extra `serve`. `ipfl.serve.app.create_app`
makes the application.
"""
