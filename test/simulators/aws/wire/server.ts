/**
 * The one HTTP endpoint of all services. A request goes through the same doors as at AWS: who calls, which operation, rate,
 * constraints of the model, permission; then the service itself.
 */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

import type { Context } from "../context.ts";
import { faultError } from "../faults.ts";
import type { Principal } from "../iam/access.ts";
import { loadModel, type ServiceModel, signingName } from "./model.ts";
import { modelStatus, type Protocol, protocolOf, type WireAnswer, type WireRequest } from "./protocol.ts";
import { AwsFault, type Call, type ServiceHandler } from "./service.ts";
import { violations } from "./validate.ts";

interface Service {
  readonly handler: ServiceHandler;
  readonly model: ServiceModel;
  readonly protocol: Protocol;
}

/** Thrown through a handler's doors when a fault wants the connection closed. */
class ConnectionCut extends Error {}

/** Serves HTTP for paths that are not AWS's API, for instance `/v4/…` of the task metadata; false: not its path. */
export type PathHandler = (request: IncomingMessage, response: ServerResponse) => boolean;

/** The simulated endpoint. */
export class WireServer {
  readonly #context: Context;
  readonly #services = new Map<string, Service>();
  readonly #paths: PathHandler[] = [];
  readonly #server: Server;

  constructor(context: Context) {
    this.#context = context;
    this.#server = createServer((request, response) => {
      if (!this.#paths.some((handle) => handle(request, response))) {
        void this.#serve(request, response);
      }
    });
    this.#server.keepAliveTimeout = 60_000;
  }

  /** Adds a service. */
  add(handler: ServiceHandler): void {
    const model = loadModel(handler.name);
    this.#services.set(signingName(model), { handler, model, protocol: protocolOf(model) });
  }

  /** Adds paths that are not AWS's API. */
  addPaths(handle: PathHandler): void {
    this.#paths.push(handle);
  }

  /** Listens on loopback; answers the URL. */
  async listen(): Promise<string> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    const closed = once(this.#server, "close");
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
  }

  async #serve(message: IncomingMessage, response: ServerResponse): Promise<void> {
    const requestId = randomUUID();
    try {
      const request = await readWhole(message);
      const answer = await this.#handle(request, requestId);
      response.writeHead(answer.status, {
        ...answer.headers,
        "content-length": Buffer.byteLength(answer.body),
        date: new Date().toUTCString(),
      });
      response.end(answer.body);
    } catch (error) {
      if (!(error instanceof ConnectionCut)) {
        console.error("simulated AWS:", error);
      }
      message.socket.destroy();
    }
  }

  async #handle(request: WireRequest, requestId: string): Promise<WireAnswer> {
    const scope = credentialScope(String(request.headers["authorization"] ?? ""));
    const service = this.#services.get(scope?.service ?? "");
    if (scope === undefined || service === undefined) {
      const message = scope === undefined ? "Missing Authentication Token" : `no service ${scope.service}`;
      const body = JSON.stringify({ __type: "MissingAuthenticationTokenException", message });
      return { status: 403, headers: { "x-amzn-requestid": requestId }, body };
    }
    const { handler, model, protocol } = service;
    const startedAt = performance.now();
    const logged = {
      service: handler.name,
      operation: "",
      principal: "",
      requestId,
      input: undefined as unknown,
      at: this.#context.clock.nowMs(),
    };
    const record = (status: number, error?: string): void => {
      const tookMs = performance.now() - startedAt;
      this.#context.calls.record({ ...logged, status, tookMs, ...(error === undefined ? {} : { error }) });
    };
    try {
      const { operation, read } = protocol.find(model, request);
      logged.operation = operation.name;
      const principal = this.#authenticate(handler, scope);
      logged.principal = principal.arn;
      logged.input = read() ?? {};
      const output = await this.#call(service, operation.name, logged.input, { requestId, principal });
      const answer = protocol.answer(model, operation, output ?? {}, requestId);
      record(answer.status);
      return answer;
    } catch (error) {
      if (error instanceof ConnectionCut) {
        record(0, "connection cut");
        throw error;
      }
      const fault =
        error instanceof AwsFault
          ? error
          : new AwsFault("InternalFailure", String((error as Error).stack), 500);
      const status = fault.status ?? modelStatus(model, fault.code) ?? 400;
      record(status, fault.code);
      return protocol.fail(model, fault, status, requestId);
    }
  }

  #authenticate({ codes }: ServiceHandler, { accessKeyId, region }: CredentialScope): Principal {
    if (region !== this.#context.region) {
      const message = `Credential should be scoped to a valid region, not '${region}'.`;
      throw new AwsFault("InvalidSignatureException", message, 403);
    }
    const principal = this.#context.iam.principalOf(accessKeyId);
    if (principal === undefined) {
      const message = "The security token included in the request is invalid.";
      throw new AwsFault(codes.unknownKey, message, codes.unknownKeyStatus);
    }
    return principal;
  }

  async #call({ handler, model }: Service, name: string, input: unknown, call: Call): Promise<unknown> {
    const { rates, faults, clock, iam } = this.#context;
    const { codes } = handler;
    if (rates.take(`${handler.name}.${name}`, input) !== undefined) {
      throw new AwsFault(codes.throttled, "Rate exceeded", codes.throttledStatus);
    }
    const fault = faults.take(handler.name, name, input);
    if (fault?.delayMs !== undefined) {
      await clock.sleep(fault.delayMs);
    }
    if (fault?.cut === "before") {
      throw new ConnectionCut();
    }
    const injected = fault === undefined ? undefined : faultError(fault);
    if (injected !== undefined) {
      throw injected;
    }
    const reference = model.operations[name]?.input;
    const found = reference === undefined ? [] : violations(model, reference, input);
    if (found.length > 0) {
      const many = found.length === 1 ? "1 validation error" : `${found.length} validation errors`;
      throw new AwsFault(codes.invalid, `${many} detected: ${found.join("; ")}`);
    }
    const operation = handler.operations[name];
    if (operation === undefined) {
      throw new AwsFault("UnknownOperationException", `${handler.name} ${name} is not simulated`, 501);
    }
    for (const request of operation.access(input, call)) {
      const refusal = iam.refusal(call.principal, request);
      if (refusal !== undefined) {
        throw new AwsFault(codes.denied, refusal, codes.deniedStatus);
      }
    }
    const output = await operation.run(input, call);
    if (fault?.cut === "after") {
      throw new ConnectionCut();
    }
    return output;
  }
}

interface CredentialScope {
  readonly accessKeyId: string;
  readonly region: string;
  readonly service: string;
}

/** What a SigV4 `Authorization` header says about the caller. */
function credentialScope(authorization: string): CredentialScope | undefined {
  const match = /^AWS4-HMAC-SHA256 Credential=([^/]+)\/\d{8}\/([^/]+)\/([^/]+)\/aws4_request,/.exec(
    authorization,
  );
  const [, accessKeyId, region, service] = match ?? [];
  return accessKeyId === undefined || region === undefined || service === undefined
    ? undefined
    : { accessKeyId, region, service };
}

async function readWhole(message: IncomingMessage): Promise<WireRequest> {
  const chunks: Buffer[] = [];
  for await (const chunk of message) {
    chunks.push(chunk as Buffer);
  }
  return {
    method: message.method ?? "",
    url: new URL(message.url ?? "/", "http://simulated"),
    headers: message.headers,
    body: Buffer.concat(chunks),
  };
}
