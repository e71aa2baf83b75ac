"""Whole fleets in one thread: real sidecars and real ledgers on a pretend clock, network and disk, from a seed.

What is real: the keeper, the lease table, the decision (`proxy.authorize`), the settlement and its record, the
outbox with its files and its recovery, the shipper, how a start joins the ledger (`app.back_office`), the messages
as bytes, and the ledger's service with its tables. What is pretended stands here, one module each:

    loop      an event loop that never sleeps: time jumps to what is due next; processes in it can be paused, killed
    machine   clocks that can be set wrong, disks that fill up, fail, and lose what was not synced
    network   messages lost, doubled, late by up to a minute, overtaken; ways cut in one direction or in both
    book      the ledger's tables in memory; commits of which nobody learns; earlier copies put back
    ledgers   the ledger's processes over that book
    pods      the sidecars' processes, and an application's call from its decision to its record
    truth     the provider: what calls were made and what each cost, whoever lived to see it

    world     all of it together, and the laws that are asked at every admission, commit and look around
    laws      the laws, an object each; none believes the product's own figures but the book's, which it checks
    faults    what can go wrong, a function each
    coverage  what of it really met something, counted, and how often it must
    history   one history: customers and budgets, calls, faults, healing, and the end
    spoilt    the product as it must not be, a way each
    mutants   those variants, each with the law that finds it

A seed decides everything: how many sidecars, how hard it rains, which faults come and when. The same seed gives the
same history, on every machine. So a failure is looked at by

    python -m tests.scenarios.run --seed 17            # the trace, to the law that broke
    python -m tests.scenarios.run --seed 17 --mutant refund_at_expiry
    python -m tests.scenarios.run --seeds 1000         # only which of them break a law
    python -m tests.scenarios.run --seeds 500 --coverage   # and what happened in them, how often; `--bites`: more of it
    make soak SEEDS=20000                              # the same on two processes, with the rest of the soak

Read a trace from its end: the last line names the law and the account or lease; look for that name upwards, until
the sidecar's figure and the book's part ways. Lines that begin with FAULT say what was done to the world. Times are
seconds since the beginning. To try a thought, give `history.run` a `Mix` of your own, with the faults that matter.

To add a fault: a function in `faults`, and what it takes to `heal`. If something may then be lost for good, say so
where it is lost (`Made.may_be_lost`, `Life.may_leave`): the laws excuse nothing else. To add a law: a class in
`laws`, and a mutant that it finds; a law that finds none is not a law yet.
"""
