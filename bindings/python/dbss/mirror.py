"""A local archive of reports, which a call brings up to date."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from . import _abi as abi
from . import errors, ffi, settings
from ._items import Counts
from .operation import Operation, Performer, ProgressFunction

if TYPE_CHECKING:
    from .client import PathLike


@dataclass(frozen=True)
class MirrorFailure:
    """A report that a mirror could not have, or the reports of an instance."""

    instance_id: str
    """Its instance."""
    report_id: str | None
    """Its id; None where it was the list of the instance's reports that failed."""
    error: errors.Error
    """Why not."""


@dataclass(frozen=True)
class Gap:
    """A day, week or month without a report.

    They are counted between the first and the last report of an instance and a
    type (AUDIT_REPORT_DAY, _WEEK, _MONTH), or since ``since`` and until ``until``.
    """

    instance_id: str
    """The instance."""
    type: str
    """The type of report that is lacking."""
    period: date
    """The first day of the period."""


@dataclass(frozen=True)
class MirrorResult(Counts):
    """How a mirror went, as far as it went; see Client.mirror()."""

    failures: tuple[MirrorFailure, ...] = ()
    """The reports that could not be had."""
    gaps: tuple[Gap, ...] = ()
    """The days, weeks and months that have no report."""


def _result(pointer: abi.MirrorResult) -> MirrorResult | None:
    """A result of libdbss; None where the mirror did not begin."""
    if not pointer:
        return None
    counts = {
        one.name: getattr(abi, f"mirror_result_{one.name}")(pointer)
        for one in dataclasses.fields(Counts)
    }
    failures = tuple(
        MirrorFailure(
            ffi.decode(abi.mirror_result_failure_instance(pointer, index)) or "",
            ffi.decode(abi.mirror_result_failure_id(pointer, index)) or None,
            ffi.exception(abi.mirror_result_failure_error(pointer, index)) or errors.Error(),
        )
        for index in range(abi.mirror_result_failure_count(pointer))
    )
    gaps = tuple(
        Gap(
            ffi.decode(abi.mirror_result_gap_instance(pointer, index)) or "",
            ffi.decode(abi.mirror_result_gap_type(pointer, index)) or "",
            date.fromisoformat(ffi.decode(abi.mirror_result_gap_period(pointer, index)) or ""),
        )
        for index in range(abi.mirror_result_gap_count(pointer))
    )
    return MirrorResult(**counts, failures=failures, gaps=gaps)


class Mirroring(Performer):
    """What a Client does with a local archive."""

    def mirror(
        self,
        directory: PathLike,
        *,
        project_id: str | None = None,
        instance_id: str | None = None,
        since: date | str | None = None,
        until: date | str | None = None,
        utc_offset: str | None = None,
        type: str | None = None,
        template: str | None = None,
        name: str | None = None,
        locale: str | None = None,
        parallel: int | None = None,
        verify: bool = False,
        operation: Operation | None = None,
        progress: ProgressFunction | None = None,
    ) -> MirrorResult:
        """Brings a local archive of reports up to date.

        Downloads every report that is ready and not there yet, several at once.
        What is there stays: nothing is ever deleted, also not what the service
        has deleted. The directory then holds:

        - ``{instance}/{year}/{name}_{id}.pdf`` (or ``.zip``): the reports, each of
          which appears only when it is whole and on the disk; with a locale,
          ``_{locale}`` stands before the ending; where another report's file would
          have the same name on some file system, 16 digits made of the id do too;
        - ``manifest.jsonl``: a line of JSON for each, with id, name, instance,
          locale, format, type, start_time, end_time, path, size, sha256, and the
          request_id and date of its download. Of an id's several lines the last
          counts;
        - ``SHA256SUMS``, which ``sha256sum -c`` takes;
        - ``.dbss-mirror.lock``: one mirror at a time works on a directory.

        One that was cancelled or killed goes on where it was when it is called
        again. One report's failure does not stop the others, but for refused
        credentials and a full disk, which would fail them all.

        Args:
            directory: the archive; it is made if it does not exist.
            project_id: the id of the project; None for the client's.
            instance_id: the one audit instance to mirror; None for all.
            since: the first day, a date or text such as "2026-11-24", on which
                the range of a report begins.
            until: the last such day.
            utc_offset: the offset from UTC of the days that reports are of, such as
                "+08:00", for ``since`` and ``until``, the gaps and the directories
                of years; None for UTC. The service's times name no offset, and are
                UTC as far as anybody knows.
            type: the type of the reports, such as "AUDIT_REPORT_DAY".
            template: their template_type.
            name: a name that the service is asked to look for.
            locale: the language to have them in, "en-us" or "zh-cn"; None leaves
                the choice to the service. Each language is a report of its own in
                the archive.
            parallel: how many are downloaded at once, 1 to 16; None for 4.
            verify: read the files that are there, compare them with the manifest,
                and download again what differs. Without it only their sizes count.
            operation: options, progress and cancel of this call.
            progress: called with a Progress as by download_report(); its
                ``received`` are the bytes of all downloads together, its
                ``percent`` is that of the reports.

        Returns:
            How it went.

        Raises:
            PartialError: some reports could not be had; the others are there.
            MirrorLockedError: another mirror works on the directory.
            FileError: the archive's own files cannot be read or written.
            Error: the call failed otherwise; as for download_report().
            ClosedError: the client is closed.

        The ``result`` of each such Error says how far the mirror went; None where
        it did not begin.
        """
        target = ffi.encode_path("directory", directory)
        project = None if project_id is None else ffi.encode("project", project_id)
        given = {
            "instance": instance_id,
            "since": since,
            "until": until,
            "utc_offset": utc_offset,
            "type": type,
            "template": template,
            "name": name,
            "locale": locale,
            "parallel": parallel,
            "verify": verify,
        }
        result = abi.MirrorResult()
        try:
            with ffi.made(
                abi.MirrorOptions, abi.mirror_options_new, abi.mirror_options_free
            ) as options:
                for key, value in settings.encoded("mirror", given):
                    abi.mirror_options_set(options, key, value)

                def call(context: abi.Context, control: abi.Operation) -> None:
                    abi.reports_mirror(
                        context, project, target, options, control, ffi.byref(result)
                    )

                self._perform(call, operation, progress)
            # There is always one after a success.
            return _result(result) or MirrorResult()
        except errors.Error as error:
            error.result = _result(result)
            raise
        finally:
            abi.mirror_result_free(result)
