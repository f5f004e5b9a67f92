/** Microsoft Entra ID and role assignments, as far as the simulated services ask them. */
import { randomBytes, randomUUID } from "node:crypto";

import type { SimulatedClock } from "../../common/clock.ts";

/** A service principal: an application with a secret, or a managed identity. */
export interface Principal {
  /** The client ID of the application. */
  readonly clientId: string;
  /** The ID that role assignments name. */
  readonly objectId: string;
  /** Absent: a managed identity. */
  readonly clientSecret?: string;
  /** Resource ID of a user-assigned managed identity. */
  readonly resourceId?: string;
}

/** Actions that a role allows below a scope. */
interface Assignment {
  readonly objectId: string;
  /** Resource ID of the subscription, a resource group or a resource. */
  readonly scope: string;
  /** Actions, where `*` stands for any characters. */
  readonly actions: readonly string[];
}

interface Token {
  readonly principal: Principal;
  /** The resource that the token is for. */
  readonly audience: string;
  readonly expiresAt: number;
}

/** A token was not taken; the message is Azure's. */
export class TokenRefused extends Error {
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

/** The directory of one tenant. */
export class Entra {
  readonly tenantId: string;
  /** May do everything in the subscription. */
  readonly administrator: Principal;
  /** Seconds that a token lives. */
  tokenSeconds = 86_400;
  /** Actions that principals were not allowed, with the times, milliseconds since 1970. */
  readonly denials: { readonly objectId: string; readonly action: string; readonly atMs: number }[] = [];
  readonly #clock: SimulatedClock;
  readonly #principals: Principal[] = [];
  readonly #tokens = new Map<string, Token>();
  readonly #assignments = new Set<Assignment>();
  readonly #headers = new Map<string, Principal>();

  constructor(tenantId: string, clock: SimulatedClock) {
    this.tenantId = tenantId;
    this.#clock = clock;
    this.administrator = this.createApplication();
    this.assign(this.administrator, ["*"]);
  }

  /** Makes an application with a secret; it may do nothing. */
  createApplication(): Principal {
    const clientSecret = randomBytes(20).toString("base64url");
    const principal = { clientId: randomUUID(), objectId: randomUUID(), clientSecret };
    this.#principals.push(principal);
    return principal;
  }

  /** Makes a user-assigned managed identity; it may do nothing. */
  createIdentity(resourceId: string): Principal {
    const principal = { clientId: randomUUID(), objectId: randomUUID(), resourceId };
    this.#principals.push(principal);
    return principal;
  }

  /** The managed identity with this resource ID. */
  identity(resourceId: string): Principal | undefined {
    return this.#principals.find((each) => each.resourceId?.toLowerCase() === resourceId.toLowerCase());
  }

  /** The principal with this client ID. */
  principal(clientId: string): Principal | undefined {
    return this.#principals.find((each) => each.clientId === clientId);
  }

  /**
   * Assigns a role. Answers how to take it back.
   *
   * @param actions for instance `Microsoft.App/jobs/*`
   * @param scope resource ID; all below it is meant too
   */
  assign({ objectId }: Principal, actions: readonly string[], scope = "/"): () => void {
    const assignment = { objectId, scope, actions };
    this.#assignments.add(assignment);
    return () => void this.#assignments.delete(assignment);
  }

  /** Whether a principal may do something to a resource. */
  allows({ objectId }: Principal, action: string, scope: string): boolean {
    const isAllowed = this.allowedAt({ objectId }, scope).some((actions) =>
      actions.some((pattern) => matches(pattern, action)),
    );
    if (!isAllowed) {
      this.denials.push({ objectId, action, atMs: Date.now() });
    }
    return isAllowed;
  }

  /** Actions that a principal's roles allow at a scope, by role. */
  allowedAt({ objectId }: Pick<Principal, "objectId">, scope: string): readonly (readonly string[])[] {
    return [...this.#assignments]
      .filter((each) => each.objectId === objectId && contains(each.scope, scope))
      .map(({ actions }) => actions);
  }

  /** Issues a token for a resource. @param audience as the client asked for it */
  issue(principal: Principal, audience: string): { readonly token: string; readonly expiresAt: number } {
    const now = this.#clock.nowMs();
    const expiresAt = now + this.tokenSeconds * 1000;
    const claims = {
      aud: audience,
      iss: `https://sts.windows.net/${this.tenantId}/`,
      iat: Math.floor(now / 1000),
      nbf: Math.floor(now / 1000),
      exp: Math.floor(expiresAt / 1000),
      appid: principal.clientId,
      oid: principal.objectId,
      sub: principal.objectId,
      tid: this.tenantId,
      ver: "1.0",
    };
    const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
    const signature = randomBytes(32).toString("base64url");
    const token = `${part({ typ: "JWT", alg: "RS256", kid: "simulated" })}.${part(claims)}.${signature}`;
    this.#tokens.set(token, { principal, audience, expiresAt });
    return { token, expiresAt };
  }

  /** The credentials of an application, or undefined. */
  authenticate(clientId: string, clientSecret: string): Principal | undefined {
    const principal = this.principal(clientId);
    return principal?.clientSecret === clientSecret ? principal : undefined;
  }

  /** The caller by an `Authorization` header. @param audiences resources that the service is @throws TokenRefused */
  callerOf(authorization: string | undefined, audiences: readonly string[]): Principal {
    if (authorization === undefined) {
      throw new TokenRefused(
        "AuthenticationFailed",
        "Authentication failed. The 'Authorization' header is missing.",
      );
    }
    const [scheme, text = ""] = authorization.split(" ");
    const token = scheme === "Bearer" ? this.#tokens.get(text) : undefined;
    if (token === undefined) {
      throw new TokenRefused("InvalidAuthenticationToken", "The access token is invalid.");
    }
    if (token.expiresAt <= this.#clock.nowMs()) {
      const message = `The access token expiry UTC time '${new Date(token.expiresAt).toISOString()}' is earlier than current UTC time.`;
      throw new TokenRefused("ExpiredAuthenticationToken", message);
    }
    if (!audiences.includes(token.audience.replace(/\/+$/, ""))) {
      const message = `The access token has been obtained for wrong audience or resource '${token.audience}'. It should exactly match with one of the allowed audiences '${audiences.join("','")}'.`;
      throw new TokenRefused("InvalidAuthenticationTokenAudience", message);
    }
    return token.principal;
  }

  /** The value of `IDENTITY_HEADER` for a process that is this principal. */
  headerFor(principal: Principal): string {
    const header = randomUUID();
    this.#headers.set(header, principal);
    return header;
  }

  /** The principal of a value of `IDENTITY_HEADER`. */
  byHeader(header: string): Principal | undefined {
    return this.#headers.get(header);
  }
}

function contains(scope: string, inner: string): boolean {
  const outer = scope.toLowerCase().replace(/\/+$/, "");
  return inner.toLowerCase() === outer || inner.toLowerCase().startsWith(`${outer}/`);
}

function matches(pattern: string, action: string): boolean {
  const parts = pattern.split("*").map((part) => part.replace(/[.]/g, "\\."));
  return new RegExp(`^${parts.join(".*")}$`, "i").test(action);
}
