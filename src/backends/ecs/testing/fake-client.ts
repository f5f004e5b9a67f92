/** A client of AWS for unit tests: each operation is a function. */
import { AwsError, type AwsServiceName } from "../aws/errors.ts";

/** A command's input; tests know its shape. */
export type Input = Readonly<Record<string, unknown>>;

/** A recorded call. */
export interface Call {
  readonly operation: string;
  readonly input: Input;
}

/** A service's operations by name: each returns its answer, or throws a refusal. */
export type Operations = Readonly<Record<string, (input: Input) => unknown>>;

/**
 * A client with these operations; every other call fails.
 *
 * @param Client the type for the code under test
 */
export function fakeClient<Client>(operations: Operations): {
  readonly client: Client;
  readonly calls: Call[];
  readonly made: (operation: string) => Input[];
} {
  const calls: Call[] = [];
  const client = {
    send: async (command: { constructor: { name: string }; input: Input }) => {
      const operation = command.constructor.name.replace(/Command$/, "");
      calls.push({ operation, input: command.input });
      const answer = operations[operation];
      if (answer === undefined) {
        throw new Error(`unexpected call of ${operation}`);
      }
      return await answer(command.input);
    },
  } as Client;
  const made = (operation: string): Input[] =>
    calls.filter((call) => call.operation === operation).map(({ input }) => input);
  return { client, calls, made };
}

/** Turns a {@link refusal} into a truncated answer: AWS has executed the call. */
export const answered = { $metadata: { httpStatusCode: 200 } };

/** The error of a call that did not reach AWS, as the clients throw it. */
export function unanswered(
  service: AwsServiceName,
  operation: string,
  name: string,
  message: string,
): AwsError {
  return new AwsError({ service, operation }, Object.assign(new Error(message), { name }));
}

/** The error of a refused call, as the clients throw it. */
export function refusal(
  service: AwsServiceName,
  operation: string,
  name: string,
  message = "refused",
  more: object = {},
): AwsError {
  const cause = Object.assign(new Error(message), { name, $metadata: { httpStatusCode: 400 }, ...more });
  return new AwsError({ service, operation }, cause);
}
