/** The programs that a process of sockerless can run, and where their code is. */
import type { Config } from "../common/config/load.ts";
import type { BackendName } from "../common/config/schema.ts";
import type { Supervision } from "../common/held-sockets.ts";
import type { RunningService } from "../common/running-service.ts";

/**
 * Starts a service; the signal asks to end, and a start that takes long ends with it. With a supervision it
 * takes over from the process before.
 */
export type StartService = (
  config: Config,
  signal: AbortSignal,
  supervision?: Supervision,
) => Promise<RunningService>;

/** One program: a module and the function in it that starts the service. */
export interface Service {
  /** The name in messages and in the process list: `frontend`, `backend`. */
  readonly name: string;
  /** URL of the compiled module. */
  readonly module: string;
  /** The exported {@link StartService}. */
  readonly start: string;
  /** True if it streams execs to clients, which its death cuts. */
  readonly streamsExecs: boolean;
  /** Switches that its Node is given beside those of all services. */
  readonly switches: readonly string[];
}

/**
 * As soon as it loads TLS, Node reads all authorities of the web, 1 to 2 MB, unless it is told to use OpenSSL's own, which
 * are read when they are needed. The other two: it would not start where the environment asks for more than one kind.
 */
const noWebAuthorities = ["--no-use-bundled-ca", "--no-use-system-ca", "--use-openssl-ca"] as const;

/** The frontend: each of its TLS connections is told whom to trust. */
export function frontendService(): Service {
  return {
    ...serviceAt("frontend", "../frontend/main.js", "startFrontend"),
    streamsExecs: true,
    switches: noWebAuthorities,
  };
}

/** A backend. */
export function backendService(name: BackendName): Service {
  return {
    ...serviceAt("backend", `../backends/${name}/main.js`, "startBackend"),
    streamsExecs: false,
    switches: [],
  };
}

/**
 * Loads a program's code.
 *
 * @returns the function that starts it
 */
export async function loadService(service: Pick<Service, "module" | "start">): Promise<StartService> {
  const loaded = (await import(service.module)) as Record<string, unknown>;
  const start = loaded[service.start];
  if (typeof start !== "function") {
    throw new TypeError(`${service.module} does not export ${service.start}`);
  }
  return start as StartService;
}

function serviceAt(
  name: string,
  relative: string,
  start: string,
): Pick<Service, "name" | "module" | "start"> {
  return { name, module: new URL(relative, import.meta.url).href, start };
}
