/**
 * What registries answer when they refuse (Distribution specification, "Error Codes"), in the words of Docker's client.
 */
import { z } from "zod";

import { notFound, type SockerlessError, systemError, unauthorized } from "../../../../common/errors.ts";
import { familiarName, familiarString, type NamedReference } from "../reference.ts";
import { parseChallenges } from "./auth-challenge.ts";

/** Standard messages by code, for answers without one. */
const standardMessages: Readonly<Record<string, string>> = {
  BLOB_UNKNOWN: "blob unknown to registry",
  DENIED: "requested access to the resource is denied",
  MANIFEST_UNKNOWN: "manifest unknown",
  NAME_INVALID: "invalid repository name",
  NAME_UNKNOWN: "repository name not known to registry",
  TOOMANYREQUESTS: "too many requests",
  UNAUTHORIZED: "authentication required",
  UNAVAILABLE: "service unavailable",
  UNSUPPORTED: "The operation is unsupported.",
};

const bodySchema = z.object({
  errors: z.array(z.object({ code: z.string(), message: z.string().nullish() })).nullish(),
  details: z.string().nullish(),
});

/** What a registry that asks for a password gets from clients without one. */
export const noBasicCredentials = "no basic auth credentials";

/** A refusal by a registry or its token server. */
export class RegistryRefusal extends Error {
  override readonly name = "RegistryRefusal";
  /** `MANIFEST_UNKNOWN`; empty where the answer had no code. */
  readonly code: string;
  /** Of HTTP. */
  readonly status: number;

  constructor(code: string, message: string, status: number) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

/** Reads the refusal out of an answer's status, challenge and body. */
export function refusalOf(status: number, authenticate: string, body: string): RegistryRefusal {
  if (status === 401) {
    const codes: Readonly<Record<string, string>> = {
      invalid_token: "UNAUTHORIZED",
      insufficient_scope: "DENIED",
    };
    for (const { scheme, parameters } of parseChallenges(authenticate)) {
      const code = scheme === "bearer" ? codes[parameters.get("error") ?? ""] : undefined;
      if (code !== undefined) {
        return coded(code, parameters.get("error_description"), status);
      }
    }
  }
  const parsed = parseBody(body);
  const first = parsed?.errors?.[0];
  if (first !== undefined) {
    return coded(first.code, first.message, status);
  }
  if (typeof parsed?.details === "string" && parsed.details !== "") {
    return coded(status === 429 ? "TOOMANYREQUESTS" : "UNAUTHORIZED", parsed.details, status);
  }
  switch (status) {
    case 401:
      return coded("UNAUTHORIZED", undefined, status);
    case 403:
      return coded("DENIED", undefined, status);
    case 429:
      return coded("TOOMANYREQUESTS", undefined, status);
    default:
      return new RegistryRefusal("", `received unexpected HTTP status: ${status}`, status);
  }
}

function coded(code: string, message: string | null | undefined, status: number): RegistryRefusal {
  const words = code.toLowerCase().replaceAll("_", " ");
  return new RegistryRefusal(
    code,
    `${words}: ${message || (standardMessages[code] ?? "unknown error")}`,
    status,
  );
}

function parseBody(body: string): z.output<typeof bodySchema> | undefined {
  try {
    return bodySchema.safeParse(JSON.parse(body)).data;
  } catch {
    return undefined;
  }
}

/** A failure of the connection or before it, with what was asked of whom: `Get "https://…": …`. */
export class RegistryUnreachable extends Error {
  override readonly name = "RegistryUnreachable";
}

/** The error of a pull, as moby words it. */
export function pullError(error: unknown, reference: NamedReference): unknown {
  if (error instanceof RegistryRefusal) {
    const { message } = error;
    switch (error.code) {
      case "DENIED":
        return notFound(
          `pull access denied for ${familiarName(reference)}, repository does not exist or may require ` +
            `'docker login': ${message}`,
          error,
        );
      case "MANIFEST_UNKNOWN":
        return notFound(`manifest for ${familiarString(reference)} not found: ${message}`, error);
      case "NAME_UNKNOWN":
        return notFound(`repository ${familiarName(reference)} not found: ${message}`, error);
      default:
        return systemError(message, error);
    }
  }
  return error instanceof RegistryUnreachable ? systemError(error.message, error) : error;
}

/** The error of a push, as moby words it: the registry's own words. */
export function pushError(error: unknown): unknown {
  if (error instanceof RegistryRefusal || error instanceof RegistryUnreachable) {
    const { message } = error;
    return systemError(message.endsWith(noBasicCredentials) ? noBasicCredentials : message, error);
  }
  return error;
}

/** The error of a login: wrong credentials are `unauthorized`, everything else a failure of the registry. */
export function loginError(error: unknown, address: string): SockerlessError | unknown {
  if (error instanceof RegistryRefusal) {
    const message = `Get "${address}": ${error.message}`;
    return error.code === "UNAUTHORIZED" ? unauthorized(message, error) : systemError(message, error);
  }
  return error instanceof RegistryUnreachable ? systemError(error.message, error) : error;
}

/** Whether asking again may help: the connection failed, or the registry itself did. */
export function isWorthRetrying(error: unknown): boolean {
  return error instanceof RegistryUnreachable || (error instanceof RegistryRefusal && error.status >= 500);
}
