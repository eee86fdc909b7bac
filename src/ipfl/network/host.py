"""The operator's side: a market file and a way to reach its members become an ordinary run.

The round loop, the run folder and the ledger are those of every run; `hosting` has what is added.
"""

from collections.abc import Callable
from pathlib import Path

from ipfl.engines.exchange import LimitsReplies, Transport
from ipfl.engines.replies import reply_bytes_max
from ipfl.experiment.events import Preparing, Watcher
from ipfl.experiment.loop import begin, check_key, go_on
from ipfl.ledger import OperatorKey
from ipfl.network.hosting import Hosting
from ipfl.network.market_file import Market
from ipfl.network.member_keys import enter_new_keys, market_begun
from ipfl.run_folder import Run, load_run
from ipfl.upkeep import folder as run_files


def host_market(
    market: Market,
    transport: Transport,
    key: OperatorKey,
    *,
    out: str | Path | None = None,
    force: bool = False,
    watch: Watcher | None = None,
    log: Callable[[str], None] = lambda text: None,
) -> Run:
    """Run a market with its members, from the first round.

    Args:
      market: as read from its file.
      transport: reaches the members.
      key: the operator's; members know its public half.
      out, force, watch: as in `ipfl.run`.
      log: hears of everything that was refused, and why.
    Raises:
      ConfigError, RunFolderError: before anybody is asked for anything.
    """
    if out is not None:
        run_files.check_vacant(Path(out), force)
    tell = watch or (lambda event: None)
    kept = [member.participant_id for member in market.members if not member.fingerprint]
    if kept:
        tell(
            Preparing(
                f"a place is kept for {', '.join(kept)}: give a key in the market file, and go on with it"
            )
        )
    hosting = _hosting(market, transport, key, tell, log)
    hosting.gather(first=True)
    return begin(hosting.set_up(), key, out, watch)


def resume_market(
    market: Market,
    transport: Transport,
    key: OperatorKey,
    folder: Path,
    *,
    new_keys: bool = False,
    watch: Watcher | None = None,
    log: Callable[[str], None] = lambda text: None,
) -> Run:
    """Go on with a market whose operator was interrupted; a finished one is returned as it is.

    Args:
      market, transport, key, watch, log: as in `host_market`.
      folder: the run folder.
      new_keys: enter into the ledger the keys of members that have others in the market file than there.
    Raises:
      RunFolderError, CheckpointError: no market's run folder, another market, keys that changed unasked, a damaged
        checkpoint, another operator's key.
    """
    tell = watch or (lambda event: None)
    started, market = market_begun(market, folder, new_keys=new_keys)
    if started.finished:
        return load_run(folder)
    check_key(started, key)
    for name in enter_new_keys(market, folder):
        tell(Preparing(f"{name} has a new key, which is in the ledger now"))
    hosting = _hosting(market, transport, key, tell, log)
    setup = hosting.set_up(started.config.participants.rows)
    hosting.engine.register()  # there may be no round left before which it would
    return go_on(started, hosting.with_bids_known(setup), key, watch)


def _hosting(
    market: Market, transport: Transport, key: OperatorKey, tell: Watcher, log: Callable[[str], None]
) -> Hosting:
    """The market and its engine; the transport takes in no larger replies than the engine would read."""
    hosting = Hosting.of(market, transport, key, tell, log)
    if isinstance(transport, LimitsReplies):
        engine = hosting.engine
        transport.reply_bytes_max = reply_bytes_max(engine.theta_0, engine.buffers_0)
    return hosting
