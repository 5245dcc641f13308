from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from rig.postgres import ReadySchemas, empty_schema, make_ready, postgres_server
from rig.search import some

from statesync.hub import Hub, serving

from .devices import Device, Service

KINDS = ["sqlite", "postgres"]


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a PostgreSQL server: the one that was given, or one of the tests' own."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def ready_schemas(postgres: str) -> Iterator[ReadySchemas]:
    """Databases on PostgreSQL that are ready for a hub; each test has its own."""
    with closing(ReadySchemas(postgres)) as schemas:
        yield schemas


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test with both databases; in the ordinary run one does for those that ask nothing of them."""
    if "database_kind" in metafunc.fixturenames:
        is_any = metafunc.definition.get_closest_marker("any_database") is not None
        kinds = some(KINDS, 2) if is_any else KINDS
        metafunc.parametrize("database_kind", kinds, indirect=True, scope="session")


@pytest.fixture(scope="session")
def database_kind(request: pytest.FixtureRequest) -> str:
    """One kind of server and then the other."""
    return str(request.param)


@pytest.fixture(scope="session")
def empty_database(
    database_kind: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], str]:
    """Make the address of an empty database, each time another."""
    return addresses_of(database_kind, request, tmp_path_factory)


def addresses_of(
    kind: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], str]:
    """Return what makes addresses of empty databases of a kind."""
    if kind == "sqlite":
        folder = tmp_path_factory.mktemp("hubs")
        return lambda: f"sqlite:///{folder}/{uuid.uuid4().hex}.db"
    server: str = request.getfixturevalue("postgres")
    return lambda: empty_schema(server)


@pytest.fixture(scope="session")
def lasting_database(empty_database: Callable[[], str]) -> Callable[[], str]:
    """Make the address of a database that is ready for a hub, for what lasts longer than a test."""
    return ready_for_a_hub(empty_database)


@pytest.fixture
def new_database(
    database_kind: str, empty_database: Callable[[], str], request: pytest.FixtureRequest
) -> Iterator[Callable[[], str]]:
    """Make the address of a database that is ready for a hub, each time another, until the test's end."""
    if database_kind == "sqlite":
        yield ready_for_a_hub(empty_database)
        return
    with request.getfixturevalue("ready_schemas").lent() as lend:
        yield lend


def ready_for_a_hub(empty_database: Callable[[], str]) -> Callable[[], str]:
    """Return what makes addresses of databases with the hub's tables, of those that it is given."""

    def make() -> str:
        url = empty_database()
        make_ready(url)
        return url

    return make


@pytest.fixture(scope="session")
def service(lasting_database: Callable[[], str]) -> Iterator[Service]:
    """A hub behind real HTTP that lets everybody in; tests keep apart by their spaces."""
    url = lasting_database()
    hub = Hub(url, without_tokens=True)
    with serving(hub) as address, Service(address, hub, url) as running:
        yield running
    hub.close()


@pytest.fixture
def hub(new_database: Callable[[], str]) -> Iterator[Hub]:
    """A hub of the test's own, without HTTP."""
    own = Hub(new_database(), without_tokens=True)
    yield own
    own.close()


@pytest.fixture
def postgres_hub(ready_schemas: ReadySchemas) -> Iterator[Hub]:
    """A hub of the test's own on PostgreSQL, for what only PostgreSQL can do."""
    with ready_schemas.lent() as lend, closing(Hub(lend(), without_tokens=True)) as own:
        yield own


@pytest.fixture
def space() -> str:
    """The name of a space that nobody has used."""
    return f"space-{uuid.uuid4().hex}"


@pytest.fixture
def device(service: Service, space: str) -> Device:
    """A device that is new to a new space."""
    return service.device(space)


@pytest.fixture
def other(service: Service, space: str) -> Device:
    """A second device in the same space."""
    return service.device(space)
