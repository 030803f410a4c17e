"""What every command starts from: the settings, and what is made from them when a command asks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from civicbus.errors import ConfigurationError
from civicbus.secrets import SecretStore
from civicbus.settings import Endpoints, Settings, secrets_folder


@dataclass(frozen=True, slots=True)
class Context:
    """Passed to every command as ``context.obj``."""

    settings: Settings

    @classmethod
    def from_environment(cls, home: Path | None) -> Self:
        """Read the environment once; raises ConfigurationError naming the settings that are wrong."""
        try:
            settings = Settings()
        except ValidationError as error:
            wrong = "; ".join(f"CIVICBUS_{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors())
            raise ConfigurationError(wrong, mend="correct or unset it") from None
        return cls(settings if home is None else settings.model_copy(update={"home": home}))

    @property
    def home(self) -> Path:
        return self.settings.home.resolve()

    @property
    def secrets(self) -> SecretStore:
        return SecretStore(secrets_folder(self.home))

    @property
    def endpoints(self) -> Endpoints:
        return Endpoints.load(self.home)
