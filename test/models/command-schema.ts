const words = (...values: readonly string[]) => ({ enum: values });

/** JSON Schema of what the commands model answers. */
export const commandSchema = {
  type: 'object',
  properties: {
    intent: words('on', 'off', 'set', 'timer', 'query'),
    device: words('camera', 'conveyor', 'door', 'fan', 'heater', 'light', 'pump', 'valve'),
    room: { type: 'string', minLength: 3, maxLength: 16 },
    value: { type: 'integer', minimum: 0, maximum: 100 },
    minutes: { type: 'integer', minimum: 1, maximum: 600 },
  },
  required: ['intent', 'device', 'room'],
  additionalProperties: false,
};

/** Whether a text is what the schema says, told without the code that kept the text to it. */
export function isCommand(text: string): boolean {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return false;
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  const { properties, required } = commandSchema;
  const { intent, device, room, value: level, minutes } = value as { readonly [key: string]: unknown };
  const whole = (number: unknown, least: number, most: number) =>
    number === undefined || (Number.isInteger(number) && Number(number) >= least && Number(number) <= most);
  return (
    Object.keys(value).every((key) => Object.hasOwn(properties, key)) &&
    required.every((key) => Object.hasOwn(value, key)) &&
    properties.intent.enum.includes(String(intent)) &&
    properties.device.enum.includes(String(device)) &&
    typeof room === 'string' &&
    Array.from(room).length >= 3 &&
    Array.from(room).length <= 16 &&
    whole(level, 0, 100) &&
    whole(minutes, 1, 600)
  );
}
