/** The programs that a process of sockerless can run, and the modules of their code. */
import type { Config } from "../common/config/load.ts";
import type { BackendName } from "../common/config/schema.ts";
import type { Supervision } from "../common/held-sockets.ts";
import type { RunningService } from "../common/running-service.ts";

/**
 * Starts a service; the signal asks it to end, also while it starts. With a supervision it takes over from its
 * predecessor.
 */
export type StartService = (
  config: Config,
  signal: AbortSignal,
  supervision?: Supervision,
) => Promise<RunningService>;

/** A program: its module, and the function there that starts the service. */
export interface Service {
  /** The name in messages and in the process list: `frontend`, `backend`. */
  readonly name: string;
  /** URL of the compiled module. */
  readonly module: string;
  /** The exported {@link StartService}. */
  readonly start: string;
  /** True if it streams execs to clients, so that its death cuts them. */
  readonly streamsExecs: boolean;
  /** Node switches beside those common to all services. */
  readonly switches: readonly string[];
}

/**
 * Keeps Node from reading the web's root certificates (1 to 2 MB) as soon as it loads TLS: OpenSSL's own are read on
 * demand. The two `--no-` switches are needed as Node does not start if the environment asks for more than one kind.
 */
const noWebAuthorities = ["--no-use-bundled-ca", "--no-use-system-ca", "--use-openssl-ca"] as const;

/** The frontend; each of its TLS connections names its own trusted authorities. */
export function frontendService(): Service {
  return {
    ...serviceAt("frontend", "../frontend/main.js", "startFrontend"),
    streamsExecs: true,
    switches: noWebAuthorities,
  };
}

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
 * @returns the function that starts the service
 */
export async function loadService({
  module,
  start: name,
}: Pick<Service, "module" | "start">): Promise<StartService> {
  const loaded = (await import(module)) as Record<string, unknown>;
  const start = loaded[name];
  if (typeof start !== "function") {
    throw new TypeError(`${module} does not export ${name}`);
  }
  const isTraced = (process.env["OTEL_EXPORTER_OTLP_ENDPOINT"] ?? "") !== "";
  return isTraced ? traced(name, start as StartService) : (start as StartService);
}

/** Traces a program from its start to its end; the tracing's code is loaded only then. */
function traced(name: string, start: StartService): StartService {
  return async (config, signal, supervision) => {
    const service = name.replace(/^start/, "").toLowerCase();
    const [{ startTracing }, { processLogger }] = await Promise.all([
      import("../common/telemetry.ts"),
      import("../common/logger.ts"),
    ]);
    const stopTracing = startTracing(service, processLogger(config, service));
    const running = await start(config, signal, supervision);
    return {
      ...running,
      async close() {
        await running.close();
        await stopTracing();
      },
    };
  };
}

function serviceAt(
  name: string,
  relative: string,
  start: string,
): Pick<Service, "name" | "module" | "start"> {
  return { name, module: new URL(relative, import.meta.url).href, start };
}
