/** A git repository behind a web server, by git's own program for that. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

import { runCommand } from "./command.ts";

/** The date of every commit. */
export const commitDate = "2024-05-06T07:08:09Z";

const env = {
  ...process.env,
  GIT_CONFIG_GLOBAL: "/dev/null",
  GIT_CONFIG_NOSYSTEM: "1",
  GIT_AUTHOR_NAME: "a",
  GIT_AUTHOR_EMAIL: "a@b",
  GIT_COMMITTER_NAME: "a",
  GIT_COMMITTER_EMAIL: "a@b",
  GIT_COMMITTER_DATE: commitDate,
};

/** One repository. */
export class GitServer implements AsyncDisposable {
  readonly #directory: string;
  readonly #server: Server;

  private constructor(directory: string, server: Server) {
    this.#directory = directory;
    this.#server = server;
  }

  /**
   * Serves a repository whose branch `main` is empty.
   *
   * @param host address on which it listens
   */
  static async start(host = "127.0.0.1"): Promise<GitServer> {
    const directory = await mkdtemp(join(tmpdir(), "skl-git-"));
    const program = join(await git(directory, "--exec-path"), "git-http-backend");
    await git(directory, "init", "--quiet", "--initial-branch=main", ".");
    const server = createServer((request, response) => runCgi(program, directory, request, response));
    server.listen(0, host);
    await once(server, "listening");
    return new GitServer(directory, server);
  }

  /** The repository's address. */
  get url(): string {
    const { address, port } = this.#server.address() as AddressInfo;
    return `http://${address}:${port}/repository.git`;
  }

  /** Commits files beside those that are there, and answers the commit's digest. */
  async commit(files: Readonly<Record<string, string>>): Promise<string> {
    for (const [name, content] of Object.entries(files)) {
      const file = join(this.#directory, name);
      await mkdir(dirname(file), { recursive: true });
      await writeFile(file, content);
    }
    await git(this.#directory, "add", "--all");
    await git(this.#directory, "commit", "--quiet", "--message=change");
    return await git(this.#directory, "rev-parse", "HEAD");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await rm(this.#directory, { recursive: true, force: true });
  }
}

async function git(directory: string, ...args: string[]): Promise<string> {
  const { code, text, errorText } = await runCommand("git", args, { cwd: directory, env });
  if (code !== 0) {
    throw new Error(`git ${args.join(" ")}: ${errorText}`);
  }
  return text;
}

/** Answers a request by a CGI program (RFC 3875). */
function runCgi(
  program: string,
  directory: string,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  const url = new URL(request.url ?? "/", "http://localhost");
  const child = spawn(program, {
    env: {
      ...env,
      GIT_PROJECT_ROOT: join(directory, ".git"),
      GIT_HTTP_EXPORT_ALL: "1",
      GIT_PROTOCOL: String(request.headers["git-protocol"] ?? ""),
      REQUEST_METHOD: request.method,
      PATH_INFO: url.pathname.replace("/repository.git", ""),
      QUERY_STRING: url.search.slice(1),
      CONTENT_TYPE: request.headers["content-type"] ?? "",
      HTTP_CONTENT_ENCODING: String(request.headers["content-encoding"] ?? ""),
    },
    stdio: ["pipe", "pipe", "inherit"],
  });
  child.stdin.on("error", () => undefined); // It need not read what it is sent.
  response.once("close", () => child.stdin.destroy()); // A client that leaves sends no more.
  request.pipe(child.stdin);
  let head = Buffer.alloc(0);
  const read = (chunk: Buffer): void => {
    head = Buffer.concat([head, chunk]);
    const end = head.indexOf("\r\n\r\n");
    if (end < 0) {
      return;
    }
    child.stdout.off("data", read);
    for (const line of head.subarray(0, end).toString().split("\r\n")) {
      const [, name = "", value = ""] = /^([^:]+): *(.*)$/.exec(line) ?? [];
      if (name === "Status") {
        response.statusCode = Number.parseInt(value, 10);
      } else {
        response.setHeader(name, value);
      }
    }
    response.write(head.subarray(end + 4));
    child.stdout.pipe(response);
  };
  child.stdout.on("data", read);
}
