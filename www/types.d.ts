// What passes between the modules of this folder, the WebAssembly module and
// the host. The shapes of the manifest and of answers are those of the crate.

/** What a feature takes. */
export type FeatureValue = number | string | boolean | null;

/** Values by the features' names. */
export type Features = Record<string, FeatureValue>;

/** A name or a code. */
export type Category = string | number;

/** A closed range; an absent end is open. */
export interface Range {
  min?: number;
  max?: number;
}

/** One column of a model's input. */
export interface Feature {
  name: string;
  type: "number" | "integer" | "boolean" | "category";
  nullable?: boolean;
  /** Smallest and largest value of the reference data. */
  seen?: Range;
  /** Beyond it is a fault. */
  allowed?: Range;
  categories?: Category[];
  /** Only the listed categories are accepted. */
  closed?: boolean;
  /** Names that callers may send, and the code that the model gets for each. */
  encoding?: Record<string, number>;
  example?: Category;
  input: number;
  column: number;
}

/** The bins of a monitored column. */
export type Bins =
  | { type: "numeric"; min: number; cuts: number[]; max: number }
  | { type: "categorical"; values: Category[] };

/** A monitored column: its bins and how the reference data filled them. */
export interface Column {
  name: string;
  bins: Bins;
  counts?: number[];
}

/** What `/model/info` answers: the manifest and the identity. */
export interface ModelInfo {
  format: number;
  name: string;
  version: string;
  engine: "tabular" | "neural";
  task: "binary" | "multiclass" | "regression" | "outlier" | "cluster" | "transform";
  features: Feature[];
  /** What becomes of features that the signature does not have. */
  unknown?: "error" | "ignore";
  inputs: { name: string; dtype: string; shape: number[] }[];
  output: { labels?: Category[]; positive?: number; width: number; kind: string };
  reference: { rows: number; columns: Column[] };
  bundle_sha256: string;
}

/** Something odd about a record that was answered nevertheless. */
export interface Warning {
  feature: string;
  code: string;
  message: string;
}

/** Something wrong with a record. */
export interface Fault {
  feature?: string;
  code: string;
  message: string;
  accepted?: string;
}

/** An answer; which members it has depends on the model's task. */
export interface Prediction {
  prediction: number | string | (number | null)[] | null;
  probability?: number | null;
  probabilities?: Record<string, number | null> | (number | null)[];
  score?: number | null;
  scores?: Record<string, number | null> | (number | null)[];
  warnings?: Warning[];
  model_version: string;
  inference_time_ms: number;
  id?: string;
}

/** A refusal (RFC 9457). */
export interface Problem {
  type: string;
  title: string;
  status: number;
  detail: string;
  faults?: Fault[];
  faults_omitted?: number;
  id?: string;
}

/** Where a model comes from. */
export interface LoadOptions {
  /** The bundle: its address, or its bytes. */
  bundle: string | URL | ArrayBuffer | Uint8Array;
  /**
   * The address of `modelet.js`. Without it, the one beside this library that
   * has the engine which the model needs.
   */
  module?: string | URL;
  /** The SHA-256 that the bundle must have, hexadecimal. */
  sha256?: string;
}

/** An answer with the time it takes. */
export interface Timed {
  answer: string;
  /** The mean of all runs. */
  microseconds: number;
  runs: number;
}

/** A model that was loaded, in this thread or in a worker. */
export interface LoadedModel {
  /** The manifest. */
  readonly info: ModelInfo;
  /** The identity of the model: the SHA-256 of its bundle. */
  readonly sha256: string;
  /** The number of golden rows. */
  readonly goldenRows: number;
  /** The size of the bundle. */
  readonly bundleBytes: number;
  /** Answers one record. Rejects with a `PredictionError` when it is refused. */
  predict(features: Features, id?: string): Promise<Prediction>;
  /** Answers a request's body with the text that a server would answer, a problem's included. */
  predictText(body: string): Promise<string>;
  /** Answers a batch: JSON, or `application/x-ndjson`, or `text/csv`. */
  predictBatchText(body: string, contentType?: string): Promise<string>;
  /** `predictText`, repeated for a few milliseconds because browsers' clocks are coarse. */
  predictTimed(body: string): Promise<Timed>;
  /** Runs the golden rows here; gives the indices of those whose answer differs. */
  verify(): Promise<number[]>;
  /**
   * Sends what is observed from now on to a modelet host, every so many
   * milliseconds: counts, as `POST /observe` takes them, and never values.
   * Nothing is counted or sent unless this is called.
   */
  report(host: string | URL, everyMs?: number): Promise<void>;
  /** Sends what was observed and not yet sent; whether the host has it all now. */
  flush(): Promise<boolean>;
  /** Frees the model. */
  close(): void;
}

/** The part of wasm-bindgen's `modelet.js` that is used. */
export interface EngineModule {
  default(options: { module_or_path: URL }): Promise<unknown>;
  Model: new (bundle: Uint8Array) => EngineModel;
}

/** A model as the WebAssembly module has it. */
export interface EngineModel {
  readonly sha256: string;
  readonly goldenRows: number;
  info(): ModelInfo;
  predict(request: { features: Features; id?: string }): Prediction;
  predictText(body: string, trial?: boolean): string;
  predictBatchText(body: string, contentType?: string): string;
  collect(instance: string): void;
  observations(): string | undefined;
  observed(): void;
  verify(): Uint32Array;
  free(): void;
}

/** What can be asked of the worker. */
export type WorkerMethod =
  | "load"
  | "predict"
  | "predictText"
  | "predictBatchText"
  | "predictTimed"
  | "report"
  | "flush"
  | "verify";

/** A message to the worker. */
export interface WorkerCall {
  id: number;
  method: WorkerMethod;
  args: any[];
}

/** A message from the worker. */
export interface WorkerReply {
  id: number;
  value?: any;
  error?: { message: string; problem?: Problem };
}
