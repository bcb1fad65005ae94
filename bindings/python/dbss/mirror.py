"""Mirrors: local archives of reports."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from . import _abi as abi
from . import errors, ffi, settings
from ._items import Counts
from .operation import CallRunner, Operation, ProgressFunction

if TYPE_CHECKING:
    from .client import PathLike


@dataclass(frozen=True)
class MirrorFailure:
    """A report, or a list of reports, that a mirror failed to get."""

    instance_id: str
    """The id of the instance."""
    report_id: str | None
    """The id of the report; None if the list of the instance's reports failed."""
    error: errors.Error
    """Why it failed."""


@dataclass(frozen=True)
class Gap:
    """A day, week or month without a report.

    Gaps are found for each instance and type (AUDIT_REPORT_DAY, _WEEK, _MONTH) from
    ``since`` to ``until``, or without these from the first to the last report. What has
    no report at all has gaps only if ``type`` selects it, ``since`` and ``until`` are
    given, and it is not weekly. At most 10,000 of an instance and a type are found, the
    latest ones.
    """

    instance_id: str
    """The id of the instance."""
    type: str
    """The type of the missing report."""
    period: date
    """The first day of the period."""


@dataclass(frozen=True)
class MirrorResult(Counts):
    """The result of a mirror, which may be partial; see Client.mirror()."""

    failures: tuple[MirrorFailure, ...] = ()
    """The reports that failed to download."""
    gaps: tuple[Gap, ...] = ()
    """The days, weeks and months without a report."""


def _result_from(pointer: abi.MirrorResult) -> MirrorResult | None:
    """Converts a result of libdbss; None if the mirror did not begin."""
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
            ffi.exception_from(abi.mirror_result_failure_error(pointer, index)) or errors.Error(),
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


class MirrorMethods(CallRunner):
    """The methods of Client for a local archive."""

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

        Downloads every report that is ready and missing in the archive, several at
        once. It never deletes a report, even if the service has deleted it. The
        directory then contains:

        - ``{instance}/{year}/{name}_{id}.pdf`` (or ``.zip``): the reports. Each file
          appears only when it is complete and on the disk. With a locale, the name
          ends with ``_{locale}``. If another report's file
          would have the same name on some file system, 16 digits derived from the id
          are appended too;
        - ``manifest.jsonl``: a line of JSON for each, with id, name, instance,
          locale, format, type, start_time, end_time, path, size, sha256, and the
          request_id and date of its download. If an id has several lines, the last
          one is valid;
        - ``SHA256SUMS``, for ``sha256sum -c``;
        - ``.dbss-mirror.lock``: only one mirror at a time uses a directory.

        After a cancel or a kill, the next call continues where the last one stopped.
        The failure of one report does not stop the others. Rejected credentials and
        a full disk do, because they would fail all of them.

        Args:
            directory: the archive; it is created if it does not exist.
            project_id: the id of the project; None for the client's.
            instance_id: the only audit instance to mirror; None for all.
            since: the first day on which the range of a report begins, a date or
                text such as "2026-11-24".
            until: the last such day.
            utc_offset: the offset from UTC of the days of reports, such as
                "+08:00"; None for UTC. It applies to ``since`` and ``until``, the
                gaps and the directories of years. The service's times have no
                offset, and are presumably UTC.
            type: the type of the reports, such as "AUDIT_REPORT_DAY".
            template: their template_type.
            name: a text that the service searches for in their names.
            locale: their language, "en-us" or "zh-cn"; None for the service's
                default. The archive treats each language as a separate report.
            parallel: how many are downloaded at once, 1 to 16; None for 4.
            verify: read the existing files, compare them with the manifest, and
                download those that differ. Without it only their sizes are compared.
            operation: options, progress and cancel of this call.
            progress: called with a Progress as by download_report(). Its
                ``received`` counts the bytes of all downloads, its ``percent``
                counts reports.

        Returns:
            The result.

        Raises:
            PartialError: some reports failed to download; the others are there.
            MirrorLockedError: another mirror uses the directory.
            FileError: the archive's own files cannot be read or written.
            Error: the call failed otherwise; as for download_report().
            ClosedError: the client is closed.

        The ``result`` of such an Error is the partial result; None if the mirror did
        not begin. What ``progress`` raises has such an Error as its ``__cause__``.
        """
        target = ffi.encode_path("directory", directory)
        project = None if project_id is None else ffi.encode("project_id", project_id)
        values = {
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
            with ffi.temporary_handle(
                abi.MirrorOptions, abi.mirror_options_new, abi.mirror_options_free
            ) as options:
                for key, value in settings.encode_options("mirror", values):
                    abi.mirror_options_set(options, key, value)

                def call(context: abi.Context, control: abi.Operation) -> None:
                    try:
                        abi.reports_mirror(
                            context, project, target, options, control, ffi.byref(result)
                        )
                    except errors.Error as error:
                        error.result = _result_from(result)
                        raise

                self._run_call(call, operation, progress)
            # After a success there is always a result.
            return _result_from(result) or MirrorResult()
        finally:
            abi.mirror_result_free(result)
