/** Tokens of Azure Container Registry, after "Azure Container Registry integration with Azure Active Directory" (AAD-OAuth). */
import { randomBytes } from "node:crypto";

import type { Context } from "../../context.ts";
import type { Principal } from "../../entra/entra.ts";

/** The user of every login by a refresh token. */
export const tokenUser = "00000000-0000-0000-0000-000000000000";

/** A caller of the registry: a principal with its roles, or the administrator's account. */
export type Caller = { readonly principal: Principal } | "admin";

/** A step of the registry protocol, as scopes name it. */
export type Action = "pull" | "push" | "delete" | "metadata_read";

/** Access that a scope names. */
export interface Access {
  readonly repository: string;
  readonly actions: readonly Action[];
}

/** The permission of Resource Manager behind a step. */
const rights: Readonly<Record<Action, string>> = {
  pull: "Microsoft.ContainerRegistry/registries/pull/read",
  push: "Microsoft.ContainerRegistry/registries/push/write",
  delete: "Microsoft.ContainerRegistry/registries/artifacts/delete",
  metadata_read: "Microsoft.ContainerRegistry/registries/pull/read",
};

const refreshMs = 3 * 3_600_000;
const accessMs = 75 * 60_000;

/** The tokens of one registry. */
export class RegistryTokens {
  readonly #context: Context;
  /** Resource ID of the registry. */
  readonly #scope: string;
  readonly #refresh = new Map<string, { readonly caller: Caller; readonly until: number }>();
  readonly #access = new Map<string, { readonly access: readonly Access[]; readonly until: number }>();

  constructor(context: Context, scope: string) {
    this.#context = context;
    this.#scope = scope;
  }

  /** Whether a caller's roles allow a step. */
  allows(caller: Caller, action: Action): boolean {
    return caller === "admin" || this.#context.entra.allows(caller.principal, rights[action], this.#scope);
  }

  issueRefresh(caller: Caller): string {
    const token = randomBytes(32).toString("base64url");
    this.#refresh.set(token, { caller, until: this.#context.clock.nowMs() + refreshMs });
    return token;
  }

  /** The caller of a refresh token that is in force. */
  byRefresh(token: string): Caller | undefined {
    const found = this.#refresh.get(token);
    return found !== undefined && found.until > this.#context.clock.nowMs() ? found.caller : undefined;
  }

  /** A token for that part of the scopes that the caller's roles allow. @param scopes `repository:NAME:pull,push` */
  issueAccess(caller: Caller, scopes: readonly string[]): string {
    const access = scopes.flatMap((scope): Access[] => {
      const [, repository, actions = ""] = /^repository:(.+):([^:]+)$/.exec(scope) ?? [];
      return repository === undefined
        ? []
        : [{ repository, actions: parseActions(actions).filter((action) => this.allows(caller, action)) }];
    });
    const token = randomBytes(32).toString("base64url");
    this.#access.set(token, { access, until: this.#context.clock.nowMs() + accessMs });
    return token;
  }

  /** The access of an access token that is in force. */
  byAccess(token: string): readonly Access[] | undefined {
    const found = this.#access.get(token);
    return found !== undefined && found.until > this.#context.clock.nowMs() ? found.access : undefined;
  }
}

function parseActions(text: string): Action[] {
  const all = Object.keys(rights) as Action[];
  return text === "*" ? all : all.filter((action) => text.split(",").includes(action));
}
