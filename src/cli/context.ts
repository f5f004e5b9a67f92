/** `sockerless context`: a docker context that leads to a daemon. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";

import { systemError } from "../common/errors.ts";

/** A context to be made. */
export interface ContextRequest {
  readonly name: string;
  /** `unix:///path` or `tcp://host:port`. */
  readonly host: string;
  /** True if it is to be the current one. */
  readonly isUsed: boolean;
  /** Read for Docker's TLS variables, and passed to the docker CLI. */
  readonly environment: NodeJS.ProcessEnv;
}

/**
 * Makes a context, or changes the one of that name.
 *
 * @returns lines for a terminal
 * @throws system: there is no docker CLI, or it refuses, in its words
 */
export function makeContext({ name, host, isUsed, environment }: ContextRequest): string[] {
  const { DOCKER_HOST: _host, DOCKER_CONTEXT: _context, ...env } = environment;
  const docker = (...args: string[]): { readonly isWell: boolean; readonly text: string } => {
    const { status, error, stderr } = spawnSync("docker", args, { env, encoding: "utf8" });
    if (error !== undefined) {
      throw systemError(`the docker CLI cannot be run: ${error.message}`, error);
    }
    return { isWell: status === 0, text: stderr.trim() };
  };
  const must = (...args: string[]): void => {
    const { isWell, text } = docker(...args);
    if (!isWell) {
      throw systemError(`docker ${args.join(" ")}: ${text}`);
    }
  };
  const isThere = docker("context", "inspect", name).isWell;
  const endpoint = [`host=${host}`, ...certificates(host, environment)].join();
  const description = ["--description", "sockerless"];
  must("context", isThere ? "update" : "create", name, ...description, "--docker", endpoint);
  if (isUsed) {
    must("context", "use", name);
  }
  return [
    `${isThere ? "changed" : "made"} the context ${name}: ${host}`,
    isUsed ? "docker uses it from now on" : `docker --context ${name} ps`,
  ];
}

function certificates(host: string, environment: NodeJS.ProcessEnv): string[] {
  if (!host.startsWith("tcp://")) {
    return [];
  }
  const folder = environment["DOCKER_CERT_PATH"] ?? join(environment["HOME"] ?? "", ".docker");
  return ["ca", "cert", "key"].map((name) => `${name}=${join(folder, `${name}.pem`)}`);
}
