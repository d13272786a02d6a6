"""Which live models saw a source, by which way, and what it takes to undo (mode M2).

`catalog` reads the store, `index` keeps the lineage graph in SQLite or Postgres, `radius` is the answer, `sidecar` the rows behind it,
`check` the verdict and `drawing` the picture. Below them: `lineage` says what travels along an edge and `graph` follows it; `frames`,
`bulk`, `packed`, `database` and `statements` bring the graph into the database and back.
"""
