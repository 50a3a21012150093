// The language of the page, which stands on <html>: the browser's at first, then what the server says (see banner.js).
const SPOKEN = ['en', 'ru'];

export const setLanguage = (tag) => {
  const start = String(tag).toLowerCase().split('-')[0];
  document.documentElement.lang = SPOKEN.includes(start) ? start : 'en';
};

export const language = () => document.documentElement.lang;

setLanguage(navigator.language);
