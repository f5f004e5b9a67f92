/** Refusals of registries (Distribution specification, "Error Codes"), in the words of Docker's client. */
import { STATUS_CODES } from "node:http";

import * as v from "valibot";

import { object, read } from "../../../common/documents.ts";
import {
  messageOf,
  notFound,
  type SockerlessError,
  systemError,
  unauthorized,
} from "../../../common/errors.ts";
import { ownValue } from "../../../common/own-value.ts";
import { familiarName, familiarString, type NamedReference } from "../reference.ts";
import { parseChallenges } from "./auth-challenge.ts";

/** Standard messages by code, for responses without one. */
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

const bodySchema = object({
  errors: v.nullish(v.array(object({ code: v.string(), message: v.nullish(v.string()) }))),
  details: v.nullish(v.string()),
});

/** Reason of a refusal if the registry requires a password and the client has none. */
export const noBasicCredentials = "no basic auth credentials";

/** A refusal by a registry or its token server. */
export class RegistryRefusal extends Error {
  override readonly name = "RegistryRefusal";
  /** `MANIFEST_UNKNOWN`; empty if the response had no code. */
  readonly code: string;
  /** HTTP status code. */
  readonly status: number;
  /** The reason, without {@link request}. */
  readonly reason: string;
  /** The request for which no token was granted (`Get "https://…"`), which begins the message; otherwise empty. */
  readonly request: string;

  constructor(code: string, reason: string, status: number, request = "") {
    super(request === "" ? reason : `${request}: ${reason}`);
    this.code = code;
    this.status = status;
    this.reason = reason;
    this.request = request;
  }
}

/** A refusal in its original form. */
export interface RefusalAnswer {
  readonly status: number;
  /** `WWW-Authenticate`. */
  readonly authenticate: string;
  readonly contentType: string;
  readonly body: string;
}

/** Parses a refusal. */
export function refusalOf({ status, authenticate, contentType, body }: RefusalAnswer): RegistryRefusal {
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
  const [parsed, failure] = parseBody(body);
  const first = parsed?.errors?.[0];
  if (first !== undefined) {
    return coded(first.code, first.message, status);
  }
  if (typeof parsed?.details === "string" && parsed.details !== "") {
    return coded(status === 429 ? "TOOMANYREQUESTS" : "UNAUTHORIZED", parsed.details, status);
  }
  const isUnreadable = body !== "" && /^application\/(vnd\.api\+)?json\b/i.test(contentType);
  if (isUnreadable && status !== 401 && status < 500) {
    const text = `error parsing HTTP ${status} response body: ${failure}: ${JSON.stringify(body)}`;
    return new RegistryRefusal("", text, status);
  }
  switch (status) {
    case 401:
      return coded("UNAUTHORIZED", undefined, status);
    case 403:
      return coded("DENIED", undefined, status);
    case 429:
      return coded("TOOMANYREQUESTS", undefined, status);
    default:
      return new RegistryRefusal("", `received unexpected HTTP status: ${statusLine(status)}`, status);
  }
}

function coded(code: string, message: string | null | undefined, status: number): RegistryRefusal {
  const words = code.toLowerCase().replaceAll("_", " ");
  return new RegistryRefusal(
    code,
    `${words}: ${message || (ownValue(standardMessages, code) ?? "unknown error")}`,
    status,
  );
}

/** `404 Not Found`. */
export function statusLine(status: number): string {
  return `${status} ${STATUS_CODES[status] ?? ""}`.trim();
}

/** The errors in a body, or the reason why there are none. */
function parseBody(body: string): [parsed: v.InferOutput<typeof bodySchema> | undefined, failure: string] {
  try {
    const parsed = JSON.parse(body, withLowerKeys) as unknown;
    return [read(bodySchema, parsed).value, "no error details found in HTTP response body"];
  } catch (error) {
    return [undefined, messageOf(error)];
  }
}

/** Lower-cases keys: registries write for Go's decoder, which ignores their case. */
function withLowerKeys(_: string, value: unknown): unknown {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? Object.fromEntries(Object.entries(value).map(([key, each]) => [key.toLowerCase(), each]))
    : value;
}

/** A failure of the connection or before it, with method and URL: `Get "https://…": …`. */
export class RegistryUnreachable extends Error {
  override readonly name = "RegistryUnreachable";
}

/** The error of a pull, in moby's words. */
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

/** The error of a push, like moby's: the registry's own words, without the refused request. */
export function pushError(error: unknown): unknown {
  if (error instanceof RegistryRefusal) {
    return systemError(error.reason, error);
  }
  return error instanceof RegistryUnreachable ? systemError(error.message, error) : error;
}

/** The error of a login: wrong credentials are `unauthorized`, everything else is a failure of the registry. */
export function loginError(error: unknown, address: string): SockerlessError | unknown {
  if (error instanceof RegistryRefusal) {
    const message = `Get "${address}": ${error.reason}`;
    return error.code === "UNAUTHORIZED" ? unauthorized(message, error) : systemError(message, error);
  }
  return error instanceof RegistryUnreachable ? systemError(error.message, error) : error;
}

/** Whether a retry may help: the connection failed, or the registry itself did. */
export function isWorthRetrying(error: unknown): boolean {
  return error instanceof RegistryUnreachable || (error instanceof RegistryRefusal && error.status >= 500);
}
