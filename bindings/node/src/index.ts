/**
 * Downloads the audit reports of Huawei Cloud's Database Security Service (DBSS).
 *
 * @packageDocumentation
 */
export * from './client.js';
export type { CallOptions, CallResult, Progress } from './call.js';
export {
  AbortError,
  ArgumentError,
  CancelledError,
  DbssError,
  FileError,
  InternalError,
  NetworkError,
  ResourceError,
  ServiceError,
  type ErrorDetail,
  type SystemPath,
} from './errors.js';
export type { Database, Instance, MirrorCounts, Report, Schedule, Template } from './generated/items.js';
export type {
  CallSettings,
  ClientSettings,
  MirrorOptions,
  ReportSpec,
  ScheduleChanges,
} from './generated/options.js';
export { STATUSES, type StatusCode } from './generated/statuses.js';
export { List, type Fields } from './lists.js';
export { ReportStream } from './stream.js';
