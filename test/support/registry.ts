/** Debian's `docker-registry` on this machine, with storage of its own, and pushes to it and to registries like it. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";

import { errnoOf } from "../../src/common/errors.ts";
import {
  blobOf,
  configBlob,
  type FixtureBlob,
  type FixtureImage,
  manifestBlob,
  manifestType,
} from "./images.ts";
import { until } from "./until.ts";

/** The one user of a registry that asks for credentials. */
export const registryUser = { username: "ali", password: "open sesame" } as const;

/** The htpasswd line of {@link registryUser}. */
const htpasswd = "ali:$2b$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW\n";

/** Pushes to a registry, by plain HTTP. */
export class RegistryClient {
  /** `127.0.0.1:port`: the domain of its images' names. */
  readonly host: string;
  readonly #authorization: string | undefined;

  constructor(host: string, authorization?: string) {
    this.host = host;
    this.#authorization = authorization;
  }

  /** Pushes an image under a tag; its layers as they are, or others that unpack to the same. */
  async push(
    repository: string,
    tag: string,
    image: FixtureImage,
    layers = image.layers,
  ): Promise<FixtureBlob> {
    for (const blob of [configBlob(image), ...layers.map((layer) => blobOf(layer))]) {
      await this.pushBlob(repository, blob);
    }
    const manifest = manifestBlob(image, layers);
    await this.pushManifest(repository, tag, manifest.bytes, manifestType);
    return manifest;
  }

  /** Pushes a blob. */
  async pushBlob(repository: string, { digest, bytes }: FixtureBlob): Promise<void> {
    const begun = await this.#send("POST", `/v2/${repository}/blobs/uploads/`, 202);
    const location = new URL(begun.headers.get("location") ?? "", `http://${this.host}`);
    location.searchParams.set("digest", digest);
    await this.#send("PUT", location.pathname + location.search, 201, bytes, "application/octet-stream");
  }

  /** Pushes a manifest or an index under a tag or its digest. */
  async pushManifest(repository: string, reference: string, bytes: Buffer, mediaType: string): Promise<void> {
    await this.#send("PUT", `/v2/${repository}/manifests/${reference}`, 201, bytes, mediaType);
  }

  async #send(
    method: string,
    target: string,
    expected: number,
    body?: Buffer,
    type?: string,
  ): Promise<Response> {
    const response = await fetch(`http://${this.host}${target}`, {
      method,
      headers: {
        ...(this.#authorization === undefined ? {} : { authorization: this.#authorization }),
        ...(type === undefined ? {} : { "content-type": type }),
      },
      ...(body === undefined ? {} : { body: new Uint8Array(body) }),
    });
    const text = await response.text();
    if (response.status !== expected) {
      throw new Error(`${method} ${target}: ${response.status} ${text}`);
    }
    return response;
  }
}

/** A running registry. */
export class TestRegistry extends RegistryClient implements AsyncDisposable {
  readonly #process: ChildProcess;
  readonly #directory: string;

  private constructor(
    host: string,
    process: ChildProcess,
    directory: string,
    authorization: string | undefined,
  ) {
    super(host, authorization);
    this.#process = process;
    this.#directory = directory;
  }

  /** Starts a registry; with credentials it lets only {@link registryUser} in. */
  static async start(options: { readonly credentials?: boolean } = {}): Promise<TestRegistry> {
    const directory = await mkdtemp(path.join(tmpdir(), "sockerless-registry-"));
    const passwords = path.join(directory, "htpasswd");
    const settings = {
      version: "0.1",
      log: { level: "info", formatter: "json", accesslog: { disabled: true } },
      storage: { filesystem: { rootdirectory: path.join(directory, "storage") } },
      http: { addr: "127.0.0.1:0" },
      ...(options.credentials === true ? { auth: { htpasswd: { realm: "test", path: passwords } } } : {}),
    };
    await writeFile(passwords, htpasswd);
    // JSON is YAML.
    await writeFile(path.join(directory, "config.yml"), JSON.stringify(settings));
    const process = spawn("docker-registry", ["serve", path.join(directory, "config.yml")], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    const { username, password } = registryUser;
    return new TestRegistry(
      await listeningAddress(process),
      process,
      directory,
      options.credentials === true
        ? `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`
        : undefined,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#process, "exit");
    this.#process.kill("SIGKILL");
    await ended;
    await rm(this.#directory, { recursive: true });
  }
}

async function listeningAddress(process: ChildProcess): Promise<string> {
  if (process.stderr === null) {
    throw new Error("docker-registry has no standard error");
  }
  const seen: string[] = [];
  for await (const line of createInterface(process.stderr)) {
    seen.push(line);
    const address = /listening on (127\.0\.0\.1:\d+)/.exec(line)?.[1];
    if (address !== undefined) {
      process.stderr.resume();
      return address;
    }
  }
  throw new Error(`docker-registry ended before it listened:\n${seen.join("\n")}`);
}

/** True if it has the password of {@link registryUser}, in the clear or as HTTP and Docker write it. */
export function hasCredentials(text: string): boolean {
  const { username, password } = registryUser;
  const forms = [password, `${username}:${password}`, JSON.stringify(registryUser)];
  return forms.some((form) => text.includes(form) || text.includes(Buffer.from(form).toString("base64")));
}

/** Names of the files below a directory that have it; looks again where one goes meanwhile, as what is done with does. */
export async function filesWithCredentials(directory: string): Promise<string[]> {
  return await until(async () => {
    try {
      return await presentFilesWithCredentials(directory);
    } catch (error) {
      if (errnoOf(error) === "ENOENT") {
        return undefined;
      }
      throw error;
    }
  });
}

async function presentFilesWithCredentials(directory: string): Promise<string[]> {
  const files = (await readdir(directory, { recursive: true, withFileTypes: true })).filter((each) =>
    each.isFile(),
  );
  assert.ok(files.length > 0, "there are files");
  const found: string[] = [];
  for (const { parentPath, name } of files) {
    if (hasCredentials(await readFile(path.join(parentPath, name), "latin1"))) {
      found.push(name);
    }
  }
  return found;
}
