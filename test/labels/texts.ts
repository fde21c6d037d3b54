import { hashText, pick, type Random, wholeBetween } from './random.ts';

/** 'calibrate' sets ranges, 'choose' picks between settings, 'judge' is what figures are quoted on. */
export type Split = 'calibrate' | 'choose' | 'judge';

const splits: readonly Split[] = ['calibrate', 'choose', 'judge'];

/** A text belongs to one split by its hash, whatever the seed: no two splits can ever share one. */
export function splitOf(text: string): Split {
  return splits[hashText(text) % splits.length] as Split;
}

/** What is printed on a label. */
export function labelText(random: Random): string {
  return pick(random, kinds)(random);
}

// As real serial numbers do, codes leave out the letters that are read as digits: I, O, Q.
const codeLetters = 'ABCDEFGHJKLMNPRSTUVWXYZ';
const months = ['JAN', 'FEB', 'MAR', 'APR', 'MAY', 'JUN', 'JUL', 'AUG', 'SEP', 'OCT', 'NOV', 'DEC'];
const units = ['kg', 'g', 'ml', 'mm', 'cm', 'mAh', 'kW', 'dB', 'rpm', 'lbs'];
const words = (
  'acid adapter alloy amber anchor antenna apple bakery barley basil battery bearing black blanket boiler bolt bottle ' +
  'bracket brass bread bridge bronze brush bucket butter cable cactus camera candle canvas carbon cargo carton cedar ' +
  'ceramic charger cherry chicken cinnamon circuit citrus clamp cloud cobalt cocoa coffee copper cotton cover cream ' +
  'crystal curtain cushion cylinder dairy danger detector diesel drawer drill dryer engine ethanol fabric factory ' +
  'fan filter flange flour fragile freezer frozen fuse garden garlic gasket gauge ginger glass glove gold granite ' +
  'grape grease green hammer handle harvest hazel heater helmet honey hose indigo ink iron ivory jacket jasmine juice ' +
  'kettle keyboard kitchen ladder lamp laser leather lemon lever linen liquid lithium magnet mango maple marble ' +
  'meadow metal milk mineral mint mirror modem module motor mustard napkin needle nickel nozzle nutmeg nylon oak ' +
  'olive onion orange organic oven oxide oyster paddle paint panel paper parcel pastry peach pepper pigment pillow ' +
  'piston plastic plug pocket polish potato powder pressure printer pulley pump purple quartz radar radish relay ' +
  'ribbon rice river rocket rubber saddle salmon salt sensor sesame shelf shield silver socket solder spice spring ' +
  'steel sugar switch syrup table tank tape thermal thread timber tin tissue titan tomato torch tray turbine valve ' +
  'vanilla velvet vessel vinegar violet voltage walnut washer water wax wheat wheel window wire wood yeast yellow zinc'
).split(' ');

const digits = (random: Random, count: number): string =>
  Array.from({ length: count }, () => wholeBetween(random, 0, 9)).join('');
const letters = (random: Random, count: number): string =>
  Array.from({ length: count }, () => codeLetters.charAt(wholeBetween(random, 0, codeLetters.length - 1))).join('');
const two = (n: number): string => String(n).padStart(2, '0');

function serial(random: Random): string {
  return pick(random, [
    () => `SN:${letters(random, 2)}${digits(random, 8)}`,
    () => `${letters(random, 3)}-${digits(random, 4)}-${digits(random, 3)}`,
    () => `S/N${digits(random, 10)}`,
    () => `${digits(random, 2)}${letters(random, 1)}${digits(random, 5)}${letters(random, 2)}`,
  ])();
}

function date(random: Random): string {
  const [day, month, year] = [
    wholeBetween(random, 1, 28),
    wholeBetween(random, 1, 12),
    wholeBetween(random, 2019, 2034),
  ];
  return pick(random, [
    () => `${year}-${two(month)}-${two(day)}`,
    () => `EXP${two(day)}/${two(month)}/${year}`,
    () => `MFG:${two(day)}.${two(month)}.${year}`,
    () => `${two(day)}${months[month - 1]}${year}`,
  ])();
}

function weight(random: Random): string {
  const unit = pick(random, units);
  return pick(random, [
    () => `${wholeBetween(random, 1, 99)}.${digits(random, 2)}${unit}`,
    () => `${wholeBetween(random, 10, 9999)}${unit}`,
    () => `NET${wholeBetween(random, 1, 40)}.${digits(random, 1)}${unit}`,
    () => `${wholeBetween(random, 2, 48)}x${wholeBetween(random, 20, 900)}${unit}`,
  ])();
}

function lot(random: Random): string {
  return pick(random, [
    () => `LOT:${letters(random, 1)}${digits(random, 5)}`,
    () => `BATCH${digits(random, 2)}-${digits(random, 4)}`,
    () => `L${digits(random, 4)}${letters(random, 1)}${digits(random, 2)}`,
  ])();
}

function name(random: Random): string {
  const [first, second] = [pick(random, words), pick(random, words)];
  const capital = (word: string) => word.charAt(0).toUpperCase() + word.slice(1);
  return pick(random, [
    () => `${first} ${second}`.toUpperCase(),
    () => `${capital(first)} ${second}`,
    () => `${capital(first)} ${wholeBetween(random, 10, 999)}`,
    () => `${first}-${second}`.toUpperCase(),
  ])();
}

const kinds = [serial, serial, date, weight, lot, name, name];
