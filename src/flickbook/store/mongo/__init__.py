"""The MongoDB store: one database for several hosts. Needs the `mongo` extra.

All code that uses the MongoDB driver belongs here. Neither transactions nor update pipelines are used, so that other
servers which speak the protocol work too.
Read in this order: `store` (the Store methods), `schema` (collections and indexes), `queue_order` (turns and
positions), `batch` (adding several jobs atomically), `notes` (notes, limits, secrets), `connection` (client, clock,
errors), `url`, `text_search`.
"""
