/**
 * The one HTTP endpoint of all services. A request passes the same checks as at AWS: caller, operation, rate,
 * constraints of the model, permission; then the service itself answers it.
 */
import type { Context } from "../context.ts";
import type { Fault } from "../../common/faults.ts";
import { HttpEndpoint, type WireAnswer, type WireRequest } from "../../common/wire/http-endpoint.ts";
import { type Asked, answerAndLog } from "../../common/wire/answer-and-log.ts";
import { underFault } from "../../common/wire/under-fault.ts";
import type { Principal } from "../iam/access.ts";
import { loadModel, type ServiceModel, signingName } from "./model.ts";
import { presignedScope, unsigned } from "./presigned.ts";
import { modelStatus, type Protocol, protocolOf } from "./protocol.ts";
import { AwsFault, type Call, type ServiceHandler } from "./service.ts";
import { violations } from "./validate.ts";

interface Service {
  readonly handler: ServiceHandler;
  readonly model: ServiceModel;
  readonly protocol: Protocol;
}

/** The simulated endpoint. */
export class WireServer extends HttpEndpoint {
  readonly #context: Context;
  readonly #services = new Map<string, Service>();

  constructor(context: Context) {
    super("AWS", (request, requestId) => this.#handle(request, requestId));
    this.#context = context;
  }

  /** Adds a service. */
  add(handler: ServiceHandler): void {
    const model = loadModel(handler.name);
    this.#services.set(signingName(model), { handler, model, protocol: protocolOf(model) });
  }

  async #handle(request: WireRequest, requestId: string): Promise<WireAnswer> {
    const presigned = presignedScope(request);
    const scope = credentialScope(presigned ?? String(request.headers["authorization"] ?? ""));
    const service = this.#services.get(scope?.service ?? "");
    if (scope === undefined || service === undefined) {
      const message = scope === undefined ? "Missing Authentication Token" : `no service ${scope.service}`;
      const body = JSON.stringify({ __type: "MissingAuthenticationTokenException", message });
      return { status: 403, headers: { "x-amzn-requestid": requestId }, body };
    }
    const { handler, model, protocol } = service;
    const asked: Asked = { service: handler.name, operation: "", principal: "", input: undefined };
    const answer = async (): Promise<WireAnswer> => {
      const { iam } = this.#context;
      const plain =
        presigned === undefined ? request : unsigned(request, iam.secretOf(scope.accessKeyId), Date.now()); // Signed by the clock of a real process.
      const { operation, read } = protocol.find(model, plain);
      asked.operation = operation.name;
      const principal = this.#authenticate(handler, scope);
      asked.principal = principal.arn;
      asked.input = read() ?? {};
      const output = await this.#call(service, operation.name, asked.input, { requestId, principal });
      return protocol.answer(model, operation, output ?? {}, requestId);
    };
    return await answerAndLog(this.#context, requestId, asked, answer, (error) => {
      const fault =
        error instanceof AwsFault
          ? error
          : new AwsFault("InternalFailure", String((error as Error).stack), 500);
      const status = fault.status ?? modelStatus(model, fault.code) ?? 400;
      return { ...protocol.fail(model, fault, status, requestId), code: fault.code };
    });
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
    const refuse = ({ code, message = "injected", status }: NonNullable<Fault["error"]>): AwsFault =>
      new AwsFault(code, message, status);
    return await underFault(faults.take(handler.name, name, input), clock, refuse, async () => {
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
      return await operation.run(input, call);
    });
  }
}

interface CredentialScope {
  readonly accessKeyId: string;
  readonly region: string;
  readonly service: string;
}

/** The caller's key, region and service in a SigV4 `Authorization` header; undefined: it is none. */
function credentialScope(authorization: string): CredentialScope | undefined {
  const match = /^AWS4-HMAC-SHA256 Credential=([^/]+)\/\d{8}\/([^/]+)\/([^/]+)\/aws4_request,/.exec(
    authorization,
  );
  const [, accessKeyId, region, service] = match ?? [];
  return accessKeyId === undefined || region === undefined || service === undefined
    ? undefined
    : { accessKeyId, region, service };
}
