//! Checks a flight card against the truth: the tables as they stand in the CSV files.
//!
//! Every card is checked, on our side and on the peers'. The distance is the independent check: it
//! is computed from the airports that the calls returned and compared with what the airline
//! reported. The rows themselves are compared too, since two airports can be equally far away.

use std::fmt;

use super::data::{Airport, BoardKey, Flight, FlightId, Tables};
use super::geo;

/// What one request brought together, borrowed from wherever the caller keeps it.
#[derive(Debug, Clone, Copy)]
pub struct Card<'a> {
    /// The flight asked for.
    pub flight: &'a Flight,
    /// Its origin.
    pub origin: &'a Airport,
    /// Its destination.
    pub destination: &'a Airport,
    /// The origin's next departures; empty where none were asked for.
    pub departures: &'a [Flight],
}

/// How a card is wrong.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Mismatch {
    /// No such flight stands in the CSV file.
    Unknown(FlightId),
    /// The flight is not the row asked for.
    Flight {
        /// What was asked.
        asked: FlightId,
        /// What came.
        got: FlightId,
    },
    /// An airport is not the flight's, or its row differs.
    Airport {
        /// The flight asked for.
        asked: FlightId,
        /// `"origin"` or `"destination"`.
        role: &'static str,
    },
    /// The airports are not as far apart as the airline said.
    Distance {
        /// The flight asked for.
        asked: FlightId,
        /// What the two airports give.
        computed_mi: f64,
        /// What the airline reported.
        reported_mi: u32,
    },
    /// The departures are not the next ones.
    Departures {
        /// The flight asked for.
        asked: FlightId,
        /// How many came.
        n_got: usize,
        /// How many there are.
        n_expected: usize,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(asked) => write!(f, "{asked} is not in the data"),
            Self::Flight { asked, got } => write!(f, "asked for {asked}, got {got}"),
            Self::Airport { asked, role } => write!(f, "{asked}: wrong {role}"),
            Self::Distance { asked, computed_mi, reported_mi } => {
                write!(f, "{asked}: airports are {computed_mi:.1} mi apart, not {reported_mi} mi")
            }
            Self::Departures { asked, n_got, n_expected } => {
                write!(f, "{asked}: wrong departures ({n_got} listed, {n_expected} expected)")
            }
        }
    }
}

impl std::error::Error for Mismatch {}

impl Card<'_> {
    /// Returns the great-circle distance between the two airports, once it agrees with the
    /// flight's own. This is the part that a service would do itself.
    ///
    /// # Errors
    /// [`Mismatch::Distance`] when they disagree.
    pub fn distance_mi(&self) -> Result<f64, Mismatch> {
        let computed_mi = geo::distance_mi(self.origin, self.destination);
        let reported_mi = self.flight.distance_mi;
        if geo::agrees(computed_mi, reported_mi) {
            Ok(computed_mi)
        } else {
            Err(Mismatch::Distance { asked: self.flight.id, computed_mi, reported_mi })
        }
    }

    /// Checks the whole card of flight `asked`, whose departures were limited to `n_departures`.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn verify(
        &self,
        tables: &Tables,
        asked: FlightId,
        n_departures: u32,
    ) -> Result<(), Mismatch> {
        let expected = tables.flight(asked).ok_or(Mismatch::Unknown(asked))?;
        if self.flight != expected {
            return Err(Mismatch::Flight { asked, got: self.flight.id });
        }
        let same = |got: &Airport, code| tables.airport(code).is_some_and(|row| **row == *got);
        if !same(self.origin, expected.origin) {
            return Err(Mismatch::Airport { asked, role: "origin" });
        }
        if !same(self.destination, expected.destination) {
            return Err(Mismatch::Airport { asked, role: "destination" });
        }
        self.distance_mi()?;
        let after = BoardKey { origin: expected.origin, after: expected.departed_at };
        let board = tables.board(after, n_departures);
        if self.departures == board {
            Ok(())
        } else {
            let (n_got, n_expected) = (self.departures.len(), board.len());
            Err(Mismatch::Departures { asked, n_got, n_expected })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::fixture;

    const ASKED: FlightId = FlightId(17);

    /// Builds the right card, lets `spoil` replace parts of it, and returns the verdict.
    fn verdict(spoil: impl for<'a> FnOnce(&'a Tables, &mut Card<'a>)) -> Result<(), Mismatch> {
        let tables = fixture::tables();
        let flight = tables.flight(ASKED).unwrap();
        let after = BoardKey { origin: flight.origin, after: flight.departed_at };
        let mut card = Card {
            flight,
            origin: tables.airport(flight.origin).unwrap(),
            destination: tables.airport(flight.destination).unwrap(),
            departures: tables.board(after, 5),
        };
        spoil(&tables, &mut card);
        card.verify(&tables, ASKED, 5)
    }

    #[test]
    fn the_right_card_passes() {
        assert_eq!(verdict(|_tables, _card| {}), Ok(()));
    }

    #[test]
    fn every_wrong_part_is_told_apart() {
        let other_flight =
            verdict(|tables, card| card.flight = tables.flight(FlightId(18)).unwrap());
        assert_eq!(other_flight, Err(Mismatch::Flight { asked: ASKED, got: FlightId(18) }));
        let swapped = verdict(|_tables, card| card.origin = card.destination);
        assert_eq!(swapped, Err(Mismatch::Airport { asked: ASKED, role: "origin" }));
        let round_trip = verdict(|_tables, card| card.destination = card.origin);
        assert_eq!(round_trip, Err(Mismatch::Airport { asked: ASKED, role: "destination" }));
        let short = verdict(|_tables, card| card.departures = &card.departures[1..]);
        assert_eq!(short, Err(Mismatch::Departures { asked: ASKED, n_got: 4, n_expected: 5 }));
    }

    #[test]
    fn the_distance_alone_notices_a_foreign_airport() {
        let tables = fixture::tables();
        let flight = tables.flight(ASKED).unwrap();
        let origin = tables.airport(flight.origin).unwrap();
        let card = Card { flight, origin, destination: origin, departures: &[] };
        assert!(matches!(card.distance_mi(), Err(Mismatch::Distance { asked: ASKED, .. })));
    }

    #[test]
    fn a_flight_that_does_not_exist_is_unknown() {
        let tables = fixture::tables();
        let flight = tables.flight(ASKED).unwrap();
        let origin = tables.airport(flight.origin).unwrap();
        let card = Card { flight, origin, destination: origin, departures: &[] };
        let asked = FlightId(0);
        assert_eq!(card.verify(&tables, asked, 0), Err(Mismatch::Unknown(asked)));
    }
}
