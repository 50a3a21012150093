// What the dialogs for a visitor's data, devices and account say. A text with a place in it is a function.
import { language } from './language.js';
import en from './words-en.js';
import ru from './words-ru.js';

const WORDS = { en, ru };

export const words = () => WORDS[language()];

// A moment, as it is said in the page's language: "Nov 5, 2026, 2:30 PM".
export const moment = (iso) => new Date(iso).toLocaleString(language(), { dateStyle: 'medium', timeStyle: 'short' });
