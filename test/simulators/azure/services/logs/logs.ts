/** Log Analytics: the table of containers' output, and queries over it. */
import type { Context } from "../../context.ts";
import { resourceId } from "../../context.ts";
import { type Principal, TokenRefused } from "../../entra/entra.ts";
import type { Fault } from "../../../common/faults.ts";
import type { WireAnswer, WireRequest } from "../../../common/wire/http-endpoint.ts";
import { type Asked, answerAndLog } from "../../../common/wire/answer-and-log.ts";
import { underFault } from "../../../common/wire/under-fault.ts";
import { isObject, type Schema, violations } from "../../models/schema.ts";
import { ArmFault } from "../../wire/fault.ts";
import { queryOperation } from "../../wire/rates.ts";
import type { ConsoleLine } from "../app/execution-run.ts";
import { chosen, readQuery, type Row } from "./kql.ts";

/** A workspace. */
interface Workspace {
  /** `customerId` */
  readonly id: string;
  readonly name: string;
  readonly rows: (Row & { readonly visibleAt: number })[];
  lines: number;
}

const queryBody: Schema = {
  kind: "object",
  properties: {
    query: { schema: { kind: "string" }, required: true },
    timespan: { schema: { kind: "string" } },
    workspaces: { schema: { kind: "list", element: { kind: "string" } } },
  },
};

const audience = "https://api.loganalytics.io";
const path = /^\/v1\/workspaces\/([^/]+)\/query$/;

export class Logs {
  readonly #context: Context;
  readonly #workspaces: Workspace[] = [];

  constructor(context: Context) {
    this.#context = context;
  }

  /** Makes a workspace, as an administrator does. @param id its `customerId` */
  add(name: string, id: string): void {
    this.#workspaces.push({ id, name, rows: [], lines: 0 });
  }

  /** Takes a line of a container; it can be found after the delay. */
  put(workspaceId: string, line: ConsoleLine): void {
    const { clock, delays } = this.#context;
    const workspace = this.#workspaces.find(({ id }) => id === workspaceId);
    if (workspace === undefined) {
      return;
    }
    workspace.lines += 1;
    const now = clock.nowMs();
    workspace.rows.push({
      visibleAt: now + delays.logIngestion,
      time: now / 1000 + (workspace.lines % 1000) / 1_000_000,
      replica: line.replica,
      container: line.container,
      line: line.text,
    });
  }

  /** Whether a request is for this service. */
  serves({ url }: WireRequest): boolean {
    return path.test(url.pathname);
  }

  /** @throws ConnectionCut on demand */
  async serve(request: WireRequest, requestId: string): Promise<WireAnswer> {
    const [service = "", operation = ""] = queryOperation.split(".");
    const asked: Asked = { service, operation, principal: "", input: undefined };
    const headers = { "content-type": "application/json; charset=utf-8", "x-ms-request-id": requestId };
    const answer = async (): Promise<WireAnswer> => {
      const principal = this.#authenticate(request);
      asked.principal = principal.objectId;
      asked.input = read(request);
      const table = await this.#answer(request, principal, asked.input);
      return { status: 200, headers, body: JSON.stringify({ tables: [table] }) };
    };
    return await answerAndLog(this.#context, requestId, asked, answer, (error) => {
      const { status, code, message, headers: more } = ArmFault.of(error);
      const inner = error instanceof NoTable ? { innererror: { code: "SemanticError" } } : {};
      const body = JSON.stringify({ error: { code, message, ...inner } });
      return { status, code, headers: { ...headers, ...more }, body };
    });
  }

  async #answer(request: WireRequest, principal: Principal, input: unknown): Promise<object> {
    const { rates, faults, clock } = this.#context;
    const [service = "", operation = ""] = queryOperation.split(".");
    const retryAfter = { "retry-after": "1" };
    if (rates.take(queryOperation, input) !== undefined) {
      throw new ArmFault(429, "ThrottledError", "The maximum number of queries was exceeded.", retryAfter);
    }
    const refuse = ({ code, message = "injected", status = 400 }: NonNullable<Fault["error"]>): ArmFault =>
      new ArmFault(status, code, message, status === 429 ? retryAfter : {});
    return await underFault(faults.take(service, operation, input), clock, refuse, () => {
      const workspace = this.#find(request);
      this.#authorize(principal, workspace);
      if (request.method !== "POST") {
        throw new ArmFault(405, "MethodNotAllowed", "queries are simulated by POST");
      }
      return Promise.resolve(this.#run(workspace, input));
    });
  }

  #run(workspace: Workspace, input: unknown): object {
    const found = violations(queryBody, input);
    if (found.length > 0 || !isObject(input)) {
      throw new ArmFault(
        400,
        "BadArgumentError",
        `The request had some invalid properties: ${found.join("; ")}`,
      );
    }
    const { query, timespan, workspaces } = input as {
      readonly query: string;
      readonly timespan?: string;
      readonly workspaces?: readonly string[];
    };
    if (timespan !== undefined || (workspaces !== undefined && workspaces.length > 0)) {
      throw new ArmFault(501, "NotSimulated", "a time span and several workspaces are not simulated");
    }
    const lines = readQuery(query);
    const now = this.#context.clock.nowMs();
    const arrived = workspace.rows.filter(({ visibleAt }) => visibleAt <= now);
    if (arrived.length === 0) {
      throw new NoTable();
    }
    const columns = [
      { name: "_timestamp_d", type: "real" },
      { name: "Log_s", type: "string" },
    ];
    return { name: "PrimaryResult", columns, rows: chosen(lines, arrived.toReversed()) };
  }

  #authenticate({ headers }: WireRequest): Principal {
    const origin = `https://${String(headers["host"] ?? "")}`;
    try {
      return this.#context.entra.callerOf(headers["authorization"] as string | undefined, [audience, origin]);
    } catch (error) {
      throw error instanceof TokenRefused ? new ArmFault(401, "InvalidTokenError", error.message) : error;
    }
  }

  #find({ url }: WireRequest): Workspace {
    const id = path.exec(url.pathname)?.[1];
    const workspace = this.#workspaces.find((each) => each.id === id);
    if (workspace === undefined) {
      throw new ArmFault(404, "WorkspaceNotFoundError", "The workspace could not be found.");
    }
    return workspace;
  }

  #authorize(principal: Principal, { name }: Workspace): void {
    const scope = resourceId(this.#context, `Microsoft.OperationalInsights/workspaces/${name}`);
    if (
      !this.#context.entra.allows(principal, "Microsoft.OperationalInsights/workspaces/query/read", scope)
    ) {
      const message = "The provided credentials have insufficient access to perform the requested operation";
      throw new ArmFault(403, "InsufficientAccessError", message);
    }
  }
}

/** A custom table exists once something has been put into it. */
class NoTable extends ArmFault {
  constructor() {
    super(400, "BadArgumentError", "The request had some invalid properties");
  }
}

function read({ body }: WireRequest): unknown {
  try {
    return JSON.parse(body.toString());
  } catch (error) {
    throw new ArmFault(400, "BadArgumentError", (error as Error).message);
  }
}
