"""The model as an HTTP server, with a page for people and the protocols of SageMaker and of KServe."""
