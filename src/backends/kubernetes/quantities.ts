const quantity = /^(\d+(?:\.\d+)?)(?:([numkMGTPE]|[KMGTPE]i)|[eE](\d+))?$/;
const decimal = { n: -9, u: -6, m: -3, k: 3, M: 6, G: 9, T: 12, P: 15, E: 18 } as Partial<
  Record<string, number>
>;
const binary = { Ki: 10, Mi: 20, Gi: 30, Ti: 40, Pi: 50, Ei: 60 } as Partial<Record<string, number>>;

/** The number that a quantity of Kubernetes' is: `1900m`, `16Gi`, `1e3`; 0: it is none. */
export function numberIn(text: string): number {
  const [, digits = "0", unit = "", exponent] = quantity.exec(text) ?? [];
  return Number(`${digits}e${exponent ?? decimal[unit] ?? 0}`) * 2 ** (binary[unit] ?? 0);
}
