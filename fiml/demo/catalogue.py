"""What the sample users look at: symbols, tags and kinds of queries, the popular ones first."""

from __future__ import annotations

from fiml.sessions.models import SessionType

__all__ = [
    "COINS",
    "MACRO_SERIES",
    "QUERY_TYPES",
    "QUERY_WEIGHTS",
    "STOCKS",
    "TAGS",
    "TYPE_WEIGHTS",
]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


STOCKS = _words(
    """
    AAPL NVDA TSLA MSFT AMZN GOOGL META AMD NFLX PLTR AVGO JPM INTC COIN DIS BA KO WMT XOM V
    SMCI MU CRM UBER ORCL ADBE PYPL SQ SHOP BABA NKE COST MCD SBUX PFE JNJ LLY UNH MRK ABBV
    BAC GS MS C WFC BLK SCHW AXP MA CVX COP SLB OXY BP SHEL T VZ TMUS CMCSA QCOM
    TXN AMAT LRCX ASML TSM ARM MRVL ADI NXPI ON KLAC SNPS CDNS PANW CRWD ZS FTNT NET DDOG SNOW
    MDB TEAM NOW WDAY INTU HUBS OKTA TWLO DOCU ZM ROKU SPOT PINS SNAP RBLX U EA TTWO ABNB BKNG
    EXPE MAR HLT CCL RCL DAL UAL LUV AAL F GM RIVN LCID NIO XPEV LI TM HMC RACE CAT
    DE HON GE MMM LMT RTX NOC GD UPS FDX UNP CSX NSC PG PEP CL KMB MDLZ GIS HSY
    K KHC STZ BUD DEO PM MO TGT HD LOW TJX ROST LULU DG DLTR KR WBA CVS CI HUM
    ELV ISRG SYK MDT ABT TMO DHR BMY AMGN GILD REGN VRTX MRNA BIIB ZTS IDXX DXCM EW BSX NEE
    DUK SO D AEP EXC SRE XEL PLD AMT CCI EQIX SPG O PSA DLR LIN APD SHW ECL FCX
    NEM GOLD NUE STLD AA SPGI MCO ICE CME NDAQ MSCI BX KKR APO TROW PGR ALL TRV CB
    """
)
COINS = _words(
    """
    BTC ETH SOL XRP DOGE ADA AVAX LINK DOT MATIC LTC BCH ATOM UNI NEAR APT ARB OP SUI INJ
    FIL ICP HBAR VET ALGO AAVE MKR GRT STX IMX RNDR SAND MANA AXS FTM EOS XTZ XLM TRX TON
    SHIB PEPE CRV SNX LDO
    """
)
MACRO_SERIES = _words(
    """
    SPX VIX US10Y DXY CPI GOLD_SPOT WTI FEDFUNDS NDX US02Y UNRATE GDP EURUSD PCE BRENT USDJPY RUT
    NFP DAX M2 COPPER PMI HOUST N225 UKX
    """
)

TAGS = _words(
    """
    tech growth research long-term earnings watchlist value dividends momentum ai swing risk
    semiconductors hedge intraday crypto etf macro inflation rebalancing quarterly energy options
    defensive healthcare breakout rates fundamentals banks cyclical retail ev sentiment income
    mean-reversion small-cap defi staking layer-1 layer-2 on-chain stablecoins esg pharma airlines
    travel gaming cloud cybersecurity reits utilities commodities currencies emerging-markets japan
    europe tax-loss retirement education onboarding
    """
)

QUERY_TYPES = (
    "price",
    "fundamentals",
    "technical",
    "news",
    "sentiment",
    "correlation",
    "risk",
    "forecast",
)

# How often the sessions of a type ask each of the above.
QUERY_WEIGHTS = {
    SessionType.EQUITY: (40, 22, 16, 10, 6, 1, 2, 3),
    SessionType.CRYPTO: (48, 2, 24, 8, 12, 2, 2, 2),
    SessionType.PORTFOLIO: (22, 8, 5, 4, 2, 16, 38, 5),
    SessionType.COMPARATIVE: (25, 30, 12, 4, 4, 20, 3, 2),
    SessionType.MACRO: (20, 4, 6, 22, 5, 14, 6, 23),
}

TYPE_WEIGHTS = {
    SessionType.EQUITY: 50,
    SessionType.CRYPTO: 20,
    SessionType.PORTFOLIO: 13,
    SessionType.COMPARATIVE: 11,
    SessionType.MACRO: 6,
}
