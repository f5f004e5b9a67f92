/** Default paths. */
import { createHash } from "node:crypto";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";

import type { BackendName } from "./schema.ts";

/** Facts about the process that the defaults depend on. */
export interface Surroundings {
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** The effective user ID. */
  readonly uid: number;
}

/** The default paths of one user of this machine. */
export interface DefaultPaths {
  readonly frontendSocket: string;
  readonly backendSocket: string;
  readonly stateDir: string;
  readonly runDir: string;
  readonly agentCa: string;
}

/** The default paths for this user: the system's for root, otherwise in the XDG base directories. */
export function defaultPaths(backend: BackendName, surroundings: Surroundings): DefaultPaths {
  if (surroundings.uid === 0) {
    return {
      frontendSocket: "/var/run/sockerless.sock",
      backendSocket: "/var/run/sockerless-backend.sock",
      stateDir: join("/var/lib/sockerless", backend),
      runDir: "/run/sockerless",
      agentCa: "/etc/sockerless/agent-ca.pem",
    };
  }
  const { environment, uid } = surroundings;
  const home = environment["HOME"] ?? homedir();
  // Without a login manager there is no runtime directory; this name separates users, and mode 0700 keeps others out.
  const runtime = environment["XDG_RUNTIME_DIR"] ?? join(tmpdir(), `sockerless-${uid}`);
  const state = environment["XDG_STATE_HOME"] ?? join(home, ".local/state");
  const config = environment["XDG_CONFIG_HOME"] ?? join(home, ".config");
  return {
    frontendSocket: join(runtime, "sockerless.sock"),
    backendSocket: join(runtime, "sockerless-backend.sock"),
    stateDir: join(state, "sockerless", backend),
    runDir: join(runtime, "sockerless"),
    agentCa: join(config, "sockerless/agent-ca.pem"),
  };
}

/**
 * The run directory of an instance that has its own state directory; short, as a socket's path has 107 bytes at most.
 */
export function runDirOf(stateDir: string, defaultRunDir: string): string {
  return join(defaultRunDir, createHash("sha256").update(stateDir).digest("hex").slice(0, 12));
}
