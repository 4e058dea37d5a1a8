"""The HTTP side of the service: LibreTranslate's API and the web page, as a client of the gRPC server.

A process of its own, so that HTTP never holds up the event loop of the server: ``nmt serve`` starts one beside its
workers, ``nmt gateway`` runs one anywhere.
"""
