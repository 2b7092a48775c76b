"""What the models behind an endpoint have in common, whichever API they speak."""

from typing import Annotated, Generic, TypeAlias, TypeVar

from pydantic import BaseModel, Field, ValidationError

from bayesflow_server.models.chat import Pace
from bayesflow_server.models.connection import Connection, SdkClient
from bayesflow_server.models.endpoints import BUILT_IN_ENDPOINTS

__all__ = ["RemoteModel", "Tokens"]

# As an answer counts them: what is below or above would upset the account.
Tokens: TypeAlias = Annotated[int, Field(ge=0, le=10**9)]

ClientT = TypeVar("ClientT", bound=SdkClient)
ReplyT = TypeVar("ReplyT", bound=BaseModel)


class RemoteModel(Generic[ClientT]):
    """A model that is asked over an endpoint's connection."""

    deterministic = False

    def __init__(self, model: str, connection: Connection[ClientT]) -> None:
        """Prepares the model.

        Args:
            model: The provider's model id.
            connection: Shared with the endpoint's other models and closed by its owner.
        """
        endpoint = connection.endpoint
        self.spec = f"{endpoint.name}:{model}"
        # Tomorrow the same name may stand for another machine.
        is_fixed = endpoint.name in BUILT_IN_ENDPOINTS
        self.identity = self.spec if is_fixed else f"{self.spec} at {connection.base_url}"
        self._model = model
        self._connection = connection

    @property
    def concurrency(self) -> int:
        """The endpoint's."""
        return self._connection.endpoint.concurrency

    @property
    def pace(self) -> Pace:
        """The endpoint's."""
        return self._connection.endpoint.pace

    async def aclose(self) -> None:
        """Nothing of its own to free: the connection's owner closes it."""

    def _read_as(self, form: type[ReplyT], answer: object) -> ReplyT:
        """The answer in the API's form; the SDK itself does not check a page with status 200."""
        try:
            return form.model_validate(answer)
        except ValidationError:
            pass  # raised below: what is chained to an error would show the page
        raise self._connection.provider.unreadable(self._model)
