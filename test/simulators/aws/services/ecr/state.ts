/** ECR's repositories: what was pushed, under which tags, and who has a token. */
import { randomBytes } from "node:crypto";

import { arnOf, type Context } from "../../context.ts";
import type { Principal } from "../../iam/access.ts";
import { AwsFault } from "../../wire/service.ts";

/** Tokens are good for twelve hours. */
const tokenLifetimeMs = 12 * 3_600_000;

/** A manifest that was pushed. */
export interface PushedImage {
  readonly digest: string;
  readonly mediaType: string;
  readonly manifest: Buffer;
  readonly pushedAt: Date;
  readonly tags: Set<string>;
}

/** A repository. */
export interface Repository {
  readonly name: string;
  readonly createdAt: Date;
  readonly immutableTags: boolean;
  readonly images: Map<string, PushedImage>;
}

interface Token {
  readonly principal: Principal;
  /** Simulated milliseconds since the epoch. */
  readonly expiresAt: number;
}

/** All repositories and tokens. */
export class EcrState {
  readonly #context: Context;
  readonly #repositories = new Map<string, Repository>();
  readonly #tokens = new Map<string, Token>();

  constructor(context: Context) {
    this.#context = context;
  }

  /** @throws AwsFault `RepositoryNotFoundException` */
  repository(name: string): Repository {
    const found = this.#repositories.get(name);
    if (found === undefined) {
      const message = `The repository with name '${name}' does not exist in the registry with id '${this.#context.accountId}'`;
      throw new AwsFault("RepositoryNotFoundException", message);
    }
    return found;
  }

  find(name: string): Repository | undefined {
    return this.#repositories.get(name);
  }

  /** @throws AwsFault `RepositoryAlreadyExistsException` */
  createRepository(name: string, immutableTags = false): Repository {
    if (this.#repositories.has(name)) {
      const message = `The repository with name '${name}' already exists in the registry with id '${this.#context.accountId}'`;
      throw new AwsFault("RepositoryAlreadyExistsException", message);
    }
    const made = { name, createdAt: this.#context.clock.now(), immutableTags, images: new Map() };
    this.#repositories.set(name, made);
    return made;
  }

  /** An image by its digest or its tag. */
  image({ images }: Repository, reference: string): PushedImage | undefined {
    return images.get(reference) ?? [...images.values()].find(({ tags }) => tags.has(reference));
  }

  /** Remembers a manifest, under a tag where one is given, which another image loses. */
  put(
    repository: Repository,
    image: { readonly digest: string; readonly mediaType: string; readonly manifest: Buffer },
    tag: string | undefined,
  ): PushedImage {
    const pushedAt = this.#context.clock.now();
    const stored = repository.images.get(image.digest) ?? { ...image, pushedAt, tags: new Set<string>() };
    repository.images.set(image.digest, stored);
    if (tag !== undefined) {
      for (const { tags } of repository.images.values()) {
        tags.delete(tag);
      }
      stored.tags.add(tag);
    }
    return stored;
  }

  /** A new password of the user `AWS`. */
  issueToken(principal: Principal): { readonly password: string; readonly expiresAt: Date } {
    const password = randomBytes(48).toString("base64url");
    const expiresAt = this.#context.clock.nowMs() + tokenLifetimeMs;
    this.#tokens.set(password, { principal, expiresAt });
    return { password, expiresAt: new Date(expiresAt) };
  }

  /** The owner of a password; `expired`: it was somebody's; undefined: it never was anybody's. */
  principalOf(password: string): Principal | "expired" | undefined {
    const token = this.#tokens.get(password);
    if (token === undefined) {
      return undefined;
    }
    return token.expiresAt > this.#context.clock.nowMs() ? token.principal : "expired";
  }

  repositoryArn(name: string): string {
    return arnOf(this.#context, "ecr", `repository/${name}`);
  }
}
