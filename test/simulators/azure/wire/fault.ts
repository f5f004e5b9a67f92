/** An error in Azure Resource Manager's form. */
export class ArmFault extends Error {
  readonly status: number;
  readonly code: string;
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, code: string, message: string, headers: Readonly<Record<string, string>> = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.headers = headers;
  }

  /** An error as it is told: what is no fault of the caller's is the service's. */
  static of(error: unknown): ArmFault {
    return error instanceof ArmFault
      ? error
      : new ArmFault(500, "InternalServerError", String((error as Error).stack));
  }

  /** The body of the answer. */
  get body(): string {
    return JSON.stringify({ error: { code: this.code, message: this.message } });
  }
}

/** A resource that does not exist. @param type `Microsoft.App/jobs` */
export function resourceNotFound(type: string, name: string, resourceGroup: string): ArmFault {
  const message = `The Resource '${type}/${name}' under resource group '${resourceGroup}' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix`;
  return new ArmFault(404, "ResourceNotFound", message);
}

/** A valid request for what is not simulated: nothing is ignored silently. */
export function notSimulated(feature: string): ArmFault {
  return new ArmFault(501, "NotSimulated", `${feature} is not simulated`);
}
