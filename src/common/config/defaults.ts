/** Default paths, for settings that nobody has made. */
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

/** The default paths for this user: those of the system for root, those of the XDG base directories else. */
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
  // A session without a login manager has no runtime directory; the name keeps users apart, the mode (0700) others out.
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

/** The run directory of an instance with a state directory of its own; short, because a socket's path has 107 bytes at most. */
export function runDirOf(stateDir: string, defaultRunDir: string): string {
  return join(defaultRunDir, createHash("sha256").update(stateDir).digest("hex").slice(0, 12));
}
