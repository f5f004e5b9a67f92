/** Beliefs about the cloud that no specification backs, and how long it takes. README.md lists them. */

/** The beliefs; all of them can be changed at any time. */
export interface Switches {
  /** For so many simulated milliseconds other calls do not see new jobs, executions and storages. */
  eventualConsistencyMs: number;
  /** The status of the answer to an update of a job; one that is made is answered 201. */
  updatesAreAnswered: 200 | 201;
  /** A job whose images cannot be pulled is refused when it is written. */
  imagesAreChecked: boolean;
  /** The answer to a start that is still under way names the execution. */
  startsAreNamed: boolean;
  /** Entries in a page of a list of jobs or executions. */
  pageSize: number;
  /** Cores of the Consumption profile that an environment may have in use. */
  maxCores: number;
}

/** The position of each switch that is believed to be Azure's, and the fastest for delays. */
export function defaultSwitches(): Switches {
  return {
    eventualConsistencyMs: 0,
    updatesAreAnswered: 200,
    imagesAreChecked: true,
    startsAreNamed: true,
    pageSize: 100,
    maxCores: 100,
  };
}

/** How long the cloud takes, in simulated milliseconds. */
export interface Delays {
  /** The asynchronous operation of a write of a job. 0: it has ended when the call is answered, as for the next three. */
  writeJob: number;
  /** The same of a deletion of a job. */
  deleteJob: number;
  /** The same of a start. */
  start: number;
  /** The same of a stop. */
  stop: number;
  /** From the start until a machine is found. */
  scheduling: number;
  /** Added to what the pull of the images really takes. */
  pull: number;
  /** From the end of the last container until the execution has its last status. */
  ending: number;
  /** From a line of a container until a query finds it. */
  logIngestion: number;
  /** An import of an image on the server's side, added to the copy. */
  importImage: number;
}

/** No delays. */
export function noDelays(): Delays {
  return {
    writeJob: 0,
    deleteJob: 0,
    start: 0,
    stop: 0,
    scheduling: 0,
    pull: 0,
    ending: 0,
    logIngestion: 0,
    importImage: 0,
  };
}
