// By name: `export *` would export __esModule, too.
export {
  AbortError,
  ArgumentError,
  CancelledError,
  Client,
  DbssError,
  FileError,
  InternalError,
  List,
  NetworkError,
  ReportStream,
  ResourceError,
  STATUSES,
  ServiceError,
  features,
  setMaxThreads,
  version,
} from './dist/index.js';
