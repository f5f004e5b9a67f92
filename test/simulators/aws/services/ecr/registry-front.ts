/**
 * ECR's registry: the Docker registry protocol before a real `docker-registry`, with ECR's tokens, permissions for each
 * step, repositories that must exist, and layers that lie in another service.
 */
import type { IncomingMessage, ServerResponse } from "node:http";

import type { Context } from "../../context.ts";
import type { Principal } from "../../iam/access.ts";
import type { DockerRegistry } from "../../../common/registry/docker-registry.ts";
import { readWhole, Refusal, RegistryFront } from "../../../common/registry/registry-front.ts";
import type { EcrState, Repository } from "./state.ts";

/** The most that a manifest may have, in bytes. */
const maxManifestBytes = 4 * 1024 ** 2;

/** A request of the registry protocol, taken apart. */
interface Route {
  readonly repository: string;
  readonly kind: "manifests" | "blobs" | "uploads" | "tags";
  /** Tag, digest or upload ID. */
  readonly reference: string;
}

/** The registry of ECR. */
export class EcrFront extends RegistryFront {
  readonly #context: Context;
  readonly #state: EcrState;

  /** @param start starts the real registry, at the first request */
  constructor(context: Context, state: EcrState, start: () => Promise<DockerRegistry>) {
    super(start);
    this.#context = context;
    this.#state = state;
  }

  /** Writes a manifest as `PutImage` does; the real registry checks it. */
  async putManifest(
    repository: string,
    reference: string,
    mediaType: string,
    manifest: Buffer,
  ): Promise<{ readonly status: number; readonly digest: string; readonly text: string }> {
    const answer = await fetch(`http://${await this.behind()}/v2/${repository}/manifests/${reference}`, {
      method: "PUT",
      headers: { "content-type": mediaType },
      body: new Uint8Array(manifest),
    });
    const digest = answer.headers.get("docker-content-digest") ?? "";
    return { status: answer.status, digest, text: await answer.text() };
  }

  /** The size of a layer; undefined when there is no such layer. */
  async layerSize(repository: string, digest: string): Promise<number | undefined> {
    const url = `http://${await this.behind()}/v2/${repository}/blobs/${digest}`;
    const answer = await fetch(url, { method: "HEAD" });
    return answer.ok ? Number(answer.headers.get("content-length")) : undefined;
  }

  protected override async serve(
    request: IncomingMessage,
    response: ServerResponse,
    { pathname }: URL,
  ): Promise<void> {
    const principal = this.#authenticate(request);
    if (pathname === "/v2/" || pathname === "/v2") {
      await this.pass(request, response, "/v2/");
      return;
    }
    const route = routeOf(pathname);
    if (route === undefined) {
      throw new Refusal(404, "UNSUPPORTED", `not served by ECR: ${pathname}`);
    }
    this.#authorize(principal, request.method ?? "", route);
    const repository = this.#state.find(route.repository);
    if (repository === undefined) {
      const message = `The repository with name '${route.repository}' does not exist in the registry with id '${this.#context.accountId}'`;
      throw new Refusal(404, "NAME_UNKNOWN", message);
    }
    await this.#act(request, response, route, repository);
  }

  protected override challenge(): string {
    return `Basic realm="http://${this.host}/",service="ecr.amazonaws.com"`;
  }

  async #act(
    request: IncomingMessage,
    response: ServerResponse,
    { kind, reference }: Route,
    repository: Repository,
  ): Promise<void> {
    const { method, url = "/" } = request;
    const target = new URL(url, "http://registry");
    if (kind === "manifests") {
      await this.#actOnManifest(request, response, repository, reference);
    } else if (kind === "blobs" && method === "GET") {
      if ((await this.layerSize(repository.name, reference)) === undefined) {
        throw new Refusal(404, "BLOB_UNKNOWN", "blob unknown to registry");
      }
      this.redirect(response, target);
    } else if (kind === "uploads" && method === "POST") {
      // Layers are not mounted from other repositories: whoever asks gets an ordinary upload.
      target.searchParams.delete("mount");
      target.searchParams.delete("from");
      await this.pass(request, response, target.pathname + target.search);
    } else if (method === "DELETE" && kind === "blobs") {
      throw new Refusal(405, "UNSUPPORTED", "The operation is unsupported.");
    } else {
      await this.pass(request, response, url);
    }
  }

  async #actOnManifest(
    request: IncomingMessage,
    response: ServerResponse,
    repository: Repository,
    reference: string,
  ): Promise<void> {
    const { method } = request;
    if (method === "PUT") {
      const manifest = await readWhole(request, maxManifestBytes);
      const mediaType = request.headers["content-type"] ?? "";
      const tag = reference.includes(":") ? undefined : reference;
      const holder = tag === undefined ? undefined : this.#state.image(repository, tag);
      const { status, digest, text } = await this.putManifest(
        repository.name,
        reference,
        mediaType,
        manifest,
      );
      if (status === 201) {
        if (repository.immutableTags && holder !== undefined && holder.digest !== digest) {
          const message = `The image tag '${tag}' already exists in the '${repository.name}' repository and cannot be overwritten because the tag is immutable.`;
          throw new Refusal(400, "TAG_INVALID", message);
        }
        this.#state.put(repository, { digest, mediaType, manifest }, tag);
        const location = `/v2/${repository.name}/manifests/${digest}`;
        response.writeHead(201, { location, "docker-content-digest": digest, "content-length": 0 }).end();
      } else {
        response.writeHead(status, { "content-type": "application/json; charset=utf-8" }).end(text);
      }
      return;
    }
    if (method !== "GET" && method !== "HEAD") {
      throw new Refusal(405, "UNSUPPORTED", "The operation is unsupported.");
    }
    const image = this.#state.image(repository, reference);
    if (image === undefined) {
      throw new Refusal(404, "MANIFEST_UNKNOWN", "Requested image not found");
    }
    const { digest, mediaType, manifest } = image;
    response.writeHead(200, {
      "content-type": mediaType,
      "content-length": manifest.length,
      "docker-content-digest": digest,
    });
    response.end(method === "HEAD" ? undefined : manifest);
  }

  #authenticate({ headers }: IncomingMessage): Principal {
    const [scheme, encoded = ""] = headers.authorization?.split(" ") ?? [];
    const [user, password = ""] = Buffer.from(encoded, "base64").toString().split(":");
    if (scheme !== "Basic" || user !== "AWS") {
      throw new Refusal(401, "UNAUTHORIZED", "authentication required");
    }
    const principal = this.#state.principalOf(password);
    if (principal === "expired") {
      const message = "Your authorization token has expired. Reauthenticate and try again.";
      throw new Refusal(403, "DENIED", message);
    }
    if (principal === undefined) {
      throw new Refusal(401, "UNAUTHORIZED", "authentication required");
    }
    return principal;
  }

  #authorize(principal: Principal, method: string, route: Route): void {
    const action = `ecr:${actionOf(method, route)}`;
    const resource = this.#state.repositoryArn(route.repository);
    const refusal = this.#context.iam.refusal(principal, { action, resource });
    if (refusal !== undefined) {
      throw new Refusal(403, "DENIED", refusal);
    }
  }
}

function routeOf(pathname: string): Route | undefined {
  const upload = /^\/v2\/(.+)\/blobs\/uploads\/(.*)$/.exec(pathname);
  if (upload !== null) {
    return { repository: upload[1] ?? "", kind: "uploads", reference: upload[2] ?? "" };
  }
  const [, repository, kind, reference] =
    /^\/v2\/(.+)\/(manifests|blobs|tags)\/([^/]+)$/.exec(pathname) ?? [];
  return repository === undefined || reference === undefined
    ? undefined
    : { repository, kind: kind as Route["kind"], reference };
}

/** The permission that a step of the protocol needs. */
function actionOf(method: string, { kind }: Route): string {
  const isRead = method === "GET" || method === "HEAD";
  switch (kind) {
    case "manifests":
      return isRead ? "BatchGetImage" : method === "PUT" ? "PutImage" : "BatchDeleteImage";
    case "blobs":
      return method === "HEAD" ? "BatchCheckLayerAvailability" : "GetDownloadUrlForLayer";
    case "uploads":
      return method === "POST"
        ? "InitiateLayerUpload"
        : method === "PUT"
          ? "CompleteLayerUpload"
          : "UploadLayerPart";
    case "tags":
      return "ListImages";
  }
}
